package adaround

// Memory: the inputs, or the cut that replaces them, for all images; the samples
// and the solver's copies of the largest layer; weights, float, rounded and packed.

// plan predicts the peak of memory, reports it, and settles how large a cut may be.
func (r *run) plan() {
	var fixed, solving, cut int64
	for _, t := range r.g.Consts {
		fixed += 4 * int64(t.Len()) * int64(t.DType().Size()) // float, rounded, and both packed
	}
	for _, l := range r.layers {
		solving = max(solving, r.solverBytes(l))
	}
	r.stream.limit = max(r.cfg.Memory-fixed-solving, 0)
	cut = r.stream.heldBytes()
	for _, l := range r.layers {
		if n, ok := r.stream.cutBytes(l.at); ok && n <= r.stream.limit {
			cut = max(cut, n)
		}
	}
	r.out.PeakBytes = fixed + solving + cut
	r.progress(Progress{PeakBytes: r.out.PeakBytes})
}

// solverBytes is the memory of a layer's samples and of its solver.
func (r *run) solverBytes(l *layer) int64 {
	reader, err := l.geo.bind(r.stream.shape[l.input], 0)
	if err != nil {
		return 0
	}
	positions := int64(r.stream.images) * int64(positionsPerImage(l, r.cfg.Positions, r.stream.images, reader.batch*reader.positions))
	k, o, g := int64(l.geo.k), int64(l.outputs()), int64(l.geo.groups)
	columns := 4 * positions * k * g
	total := columns + 4*positions*o
	if l.act.Kind != ActIdentity && g < o {
		total += columns / g // transposed for the polish
	}
	return total + 8*k*k + 24*positions*fastBlockOuts*int64(r.pool.Workers())
}

// heldBytes is the memory of the present cut.
func (s *stream) heldBytes() int64 {
	var total int64
	for _, c := range s.chunks {
		for name, t := range c.float {
			n := int64(t.Len()) * int64(t.DType().Size())
			if total += n; c.rounded[name] != t {
				total += n
			}
		}
	}
	return total
}

// advance decides whether the pass for layer l moves the cut before it: if that is
// further than the present one and fits.
func (r *run) advance(l *layer) bool {
	if l.at <= r.stream.at {
		return false
	}
	n, ok := r.stream.cutBytes(l.at)
	return ok && n <= r.stream.limit
}
