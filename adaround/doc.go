// Package adaround chooses, for every weight of a trained network, whether it is
// rounded down or up to its quantization grid, so that each layer's output
// changes least. It implements adaptive rounding (Nagel et al. 2020, "Up or
// Down? Adaptive Rounding for Post-Training Quantization") and a second solver
// that attacks the same binary quadratic program by exact descent moves.
//
// Apply walks the layers of a graph in execution order. For each layer it
// samples columns of the layer's input in the network rounded so far, and
// pre-activation targets of the float network, at the same output positions.
// These make a Problem, which SolverAdam (the paper) or SolverFast solves.
//
// All results are the same bits for any number of workers and any CPU: outputs
// of a layer are independent problems, every sum has a fixed order, and no
// operation is fused unless it says so.
package adaround
