package adaround

import "sync"

// meter turns finished pieces of a solver's work into the share of it that is done.
type meter struct {
	mu         sync.Mutex
	done, want float64
	tell       func(share float64) // or nil
}

// newMeter expects pieces that weigh want together, or about that: a solver may end earlier.
func newMeter(want int, tell func(share float64)) *meter {
	return &meter{want: float64(max(want, 1)), tell: tell}
}

// add says that a piece is done; pieces may come from several workers, the calls of tell come one after the other.
func (m *meter) add(weight float64) {
	if m.tell == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done += weight
	m.tell(min(m.done/m.want, 0.99))
}
