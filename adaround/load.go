package adaround

import (
	"context"
	"fmt"
	"slices"

	"roundel/nn"
	"roundel/tensor"
)

// load reads the calibration batches and makes the first cut, at the graph's inputs.
// digest, when not nil, sees the bytes of every input in order. Neighbouring batches
// of the same shapes make a chunk. Inputs that would take more than half of the
// memory are not kept: every pass reads them again.
func (s *stream) load(ctx context.Context, cfg Config, digest func(name string, t tensor.Any)) error {
	s.cfg = cfg
	batches := cfg.NumBatches
	if batches == 0 {
		batches = cfg.DataLoader.Len()
	}
	for _, in := range s.g.Inputs {
		s.live = append(s.live, in.Name)
	}
	slices.Sort(s.live)
	var parts []map[string]tensor.Any // of the last chunk
	for i := range batches {
		inputs, err := readBatch(ctx, cfg, s.g, i)
		if err != nil {
			return err
		}
		for _, name := range s.live {
			if digest != nil {
				digest(name, inputs[name])
			}
			s.inputBytes += int64(inputs[name].Len()) * int64(inputs[name].DType().Size())
		}
		count, joinable, err := images(s.g, inputs)
		if err != nil {
			return fmt.Errorf("adaround: calibration batch %d: %w", i, err)
		}
		last := len(s.chunks) - 1
		if last >= 0 && joinable && s.chunks[last].count+count <= chunkImages && alike(parts[0], inputs) {
			s.chunks[last].count += count
			s.chunks[last].to = i + 1
		} else {
			if err := s.keep(parts); err != nil {
				return err
			}
			s.chunks, parts = append(s.chunks, chunk{first: s.images, count: count, from: i, to: i + 1}), nil
		}
		parts = append(parts, inputs)
		s.images += count
	}
	return s.keep(parts)
}

// keep gives the last chunk its inputs, or drops all that there are if they have become too many.
func (s *stream) keep(parts []map[string]tensor.Any) error {
	if s.inputBytes > s.cfg.Memory/2 {
		s.dropInputs()
	}
	if s.reload || len(parts) == 0 {
		return nil
	}
	return s.join(&s.chunks[len(s.chunks)-1], parts)
}

// dropInputs makes every pass read the inputs anew.
func (s *stream) dropInputs() {
	s.reload = true
	for i := range s.chunks {
		s.chunks[i].float, s.chunks[i].rounded = nil, nil
	}
}

// fill reads the inputs of a chunk again.
func (s *stream) fill(ctx context.Context, c *chunk) error {
	var parts []map[string]tensor.Any
	for i := c.from; i < c.to; i++ {
		inputs, err := readBatch(ctx, s.cfg, s.g, i)
		if err != nil {
			return err
		}
		parts = append(parts, inputs)
	}
	return s.join(c, parts)
}

// readBatch returns the graph's inputs from batch i.
func readBatch(ctx context.Context, cfg Config, g *nn.Graph, i int) (map[string]tensor.Any, error) {
	if err := ctx.Err(); err != nil { // loaders need not look
		return nil, err
	}
	batch, err := cfg.DataLoader.Sample(ctx, i)
	if err != nil {
		return nil, fmt.Errorf("adaround: calibration batch %d: %w", i, err)
	}
	if cfg.ForwardFn != nil {
		if batch, err = cfg.ForwardFn(batch); err != nil {
			return nil, fmt.Errorf("adaround: ForwardFn of calibration batch %d: %w", i, err)
		}
	}
	inputs := map[string]tensor.Any{}
	for _, in := range g.Inputs {
		t := batch[in.Name]
		if t == nil && len(g.Inputs) == 1 && len(batch) == 1 {
			for _, only := range batch {
				t = only
			}
		}
		switch {
		case t == nil:
			return nil, fmt.Errorf("adaround: calibration batch %d has no tensor for input %q; it has %q", i, in.Name, sortedKeys(batch))
		case t.DType() != in.Type.DType:
			return nil, fmt.Errorf("adaround: calibration batch %d: input %q is %v, the model wants %v", i, in.Name, t.DType(), in.Type.DType)
		case t.Len() == 0:
			return nil, fmt.Errorf("adaround: calibration batch %d: input %q of shape %v has no samples", i, in.Name, t.Shape())
		}
		inputs[in.Name] = inner(t)
	}
	if len(inputs) == 0 {
		return nil, fmt.Errorf("adaround: the model has no inputs to calibrate with")
	}
	return inputs, nil
}

// images returns how many images a batch has, and whether it can be joined with others: not when an input does not count
// images first, such as the state [layers, N, C] of a recurrent network or a sample rate. Then the batch counts as one image.
func images(g *nn.Graph, inputs map[string]tensor.Any) (count int, joinable bool, err error) {
	open := func(v nn.ValueInfo) bool { return v.Type.Ranked && len(v.Type.Dims) > 0 && !v.Type.Dims[0].IsKnown() }
	joinable = true
	samples := 0 // of the inputs that are known to count them
	for i, in := range g.Inputs {
		shape := inputs[in.Name].Shape()
		if i == 0 && len(shape) > 0 {
			count = shape[0]
		}
		joinable = joinable && len(shape) > 0 && shape[0] == count && open(in) == open(g.Inputs[0])
		if open(in) {
			samples = max(samples, shape[0])
		}
	}
	switch {
	case joinable:
		return count, true, nil
	case samples > 1:
		return 0, false, fmt.Errorf("there are %d samples, but not every input counts samples first; give one sample in a batch", samples)
	}
	return 1, false, nil
}

// inner returns a tensor in the memory order of the stream: images with channels innermost.
func inner(t tensor.Any) tensor.Any {
	d, ok := t.(*tensor.Dense[float32])
	if !ok || len(d.Shape()) != 4 {
		return t
	}
	s := d.Shape()
	out := tensor.New[float32](s...)
	nn.ToNHWC(out.Data(), d.Data(), s[0], s[1], s[2]*s[3])
	return out
}

// join gives a chunk the inputs of its batches.
func (s *stream) join(c *chunk, parts []map[string]tensor.Any) error {
	changed := fmt.Errorf("adaround: the calibration batches %d to %d changed during the run", c.from, c.to-1)
	c.float = map[string]tensor.Any{}
	if len(parts) == 1 {
		if count, _, err := images(s.g, parts[0]); err != nil || count != c.count {
			return changed
		}
		c.float, c.rounded = parts[0], parts[0]
		return nil
	}
	for _, in := range s.g.Inputs {
		var list []tensor.Any
		count := 0
		for _, p := range parts {
			list = append(list, p[in.Name])
			count += p[in.Name].Shape()[0]
		}
		t, err := concat(list, count)
		if err != nil {
			return fmt.Errorf("adaround: input %q: %w", in.Name, err)
		}
		if count != c.count || !t.Shape()[1:].Equal(list[0].Shape()[1:]) {
			return changed
		}
		c.float[in.Name] = t
	}
	c.rounded = c.float
	return nil
}

// alike reports whether the tensors of two batches differ in the number of images only.
func alike(a, b map[string]tensor.Any) bool {
	for name, t := range a {
		if !t.Shape()[1:].Equal(b[name].Shape()[1:]) {
			return false
		}
	}
	return true
}

// concat joins tensors of one type along the first dimension, which adds up to count.
func concat(parts []tensor.Any, count int) (tensor.Any, error) {
	switch parts[0].(type) {
	case *tensor.Dense[float32]:
		return concatOf[float32](parts, count)
	case *tensor.Dense[float64]:
		return concatOf[float64](parts, count)
	case *tensor.Dense[int64]:
		return concatOf[int64](parts, count)
	case *tensor.Dense[int32]:
		return concatOf[int32](parts, count)
	case *tensor.Dense[uint8]:
		return concatOf[uint8](parts, count)
	case *tensor.Dense[bool]:
		return concatOf[bool](parts, count)
	}
	return nil, fmt.Errorf("inputs of type %v are not supported", parts[0].DType())
}

func concatOf[T tensor.Elem](parts []tensor.Any, count int) (tensor.Any, error) {
	shape := parts[0].Shape().Clone()
	shape[0] = count
	out := tensor.New[T](shape...)
	at := 0
	for _, p := range parts {
		d, err := tensor.As[T](p)
		if err != nil {
			return nil, err
		}
		at += copy(out.Data()[at:], d.Data())
	}
	return out, nil
}

// probe runs the first image through the float network and records the shapes of
// the layers' inputs and of the values that a cut may have to keep.
func (s *stream) probe(ctx context.Context, layers []*layer) error {
	wanted := map[string]bool{}
	for _, l := range layers {
		wanted[l.input] = true
		for _, v := range s.liveAt(l.at) {
			wanted[v] = true
		}
	}
	s.shape = map[string]tensor.Shape{}
	first := s.chunks[0]
	if first.float == nil {
		if err := s.fill(ctx, &first); err != nil {
			return err
		}
	}
	feeds := map[string]tensor.Any{}
	for name, t := range first.float {
		feeds[name] = t
		if d, ok := t.(*tensor.Dense[float32]); ok && first.count > 1 {
			shape := d.Shape().Clone()
			shape[0] = 1
			feeds[name] = tensor.From(d.Data()[:d.Len()/first.count], shape...)
			s.shape[name] = shape
		} else if ok {
			s.shape[name] = d.Shape()
		} else if first.count > 1 {
			feeds = first.float // other types are not sliced: probe with all images
			break
		}
	}
	for _, in := range s.g.Inputs {
		delete(wanted, in.Name)
	}
	for v := range wanted {
		if t := s.g.Types[v].DType; t != tensor.Float32 && t != tensor.Invalid { // shape arithmetic and the like: no cut there
			delete(wanted, v)
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	p, err := s.compile(ctx, nil, sortedKeys(wanted), nil, s.cfg.Activations) // of the two networks the larger
	if err != nil {
		return fmt.Errorf("adaround: %w", err)
	}
	_, err = p.RunTaps(ctx, feeds, func(t nn.Tap) {
		if t.Image == 0 {
			s.shape[t.Name] = t.Shape.Clone()
		}
	})
	if err != nil {
		return fmt.Errorf("adaround: running the model on the first calibration image: %w", err)
	}
	s.arena = p.PeakBytes()
	return nil
}
