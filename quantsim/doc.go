// Package quantsim simulates a quantized model: it decides which tensors of a graph
// are quantized and how, calibrates their encodings, and runs the graph with every
// such tensor rounded to its grid (AIMET's QuantizationSimModel).
//
// The order of a session, which Sim enforces where it matters:
//
//	sim, err := quantsim.New(graph, cfg)               // placement, by the rules of a config file
//	err = sim.SetAndFreezeParamEncodings(params)       // AdaRound's weights keep their grids
//	err = sim.ComputeEncodings(ctx, calibrate)         // everything else
//	out, err := sim.Forward(ctx, feeds)
//
// A Sim never changes the graph it was made from. Simulation is float32 on the grid,
// rounded half to even. Writing files is the business of package quantsim/export.
package quantsim
