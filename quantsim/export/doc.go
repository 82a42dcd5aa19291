// Package export turns a simulation into files that other tools read, and back:
//
//   - the float model without any quantizer, with an encodings file beside it (Write);
//   - a QDQ model, in which QuantizeLinear and DequantizeLinear nodes say the same and
//     weights are stored as integers (ToQDQ);
//   - a QDQ model of any origin as float model and encodings (FromQDQ).
//
// Check reads a model and an encodings file again and proves that they belong
// together. Names, symbolic dimensions, metadata and external data of the model that
// the simulation came from are kept.
package export
