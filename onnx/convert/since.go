package convert

import "strings"

// firstOpset lists the operators that came after opset 7, by the opset that has them first.
var firstOpset = [...]struct {
	opset int64
	ops   string
}{
	{8, "Expand Scan"},
	{9, "Acosh Asinh Atanh Compress ConstantOfShape Cosh Erf EyeLike IsNaN MaxUnpool MeanVarianceNormalization NonZero OneHot " +
		"Scatter Shrink Sign Sinh TfIdfVectorizer Where"},
	{10, "ConvInteger DequantizeLinear IsInf MatMulInteger Mod NonMaxSuppression QLinearConv QLinearMatMul QuantizeLinear Resize " +
		"ReverseSequence RoiAlign StringNormalizer ThresholdedRelu"},
	{11, "BitShift CumSum Det DynamicQuantizeLinear GatherElements GatherND Range Round ScatterElements ScatterND Unique"},
	{12, "Celu Einsum GreaterOrEqual LessOrEqual NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss"},
	{14, "HardSwish Trilu"},
	{15, "Bernoulli CastLike"},
	{16, "GridSample"},
	{17, "BlackmanWindow DFT HammingWindow HannWindow LayerNormalization MelWeightMatrix STFT"},
	{18, "BitwiseAnd BitwiseNot BitwiseOr BitwiseXor CenterCropPad Col2Im GroupNormalization Mish"},
	{19, "DeformConv"},
	{20, "AffineGrid Gelu ImageDecoder"},
	{23, "Attention RMSNormalization RotaryEmbedding"},
	{24, "Swish TensorScatter"},
	{26, "BitCast CumProd"},
	{27, "CausalConvWithState LinearAttention"},
	{28, "SwiGLU"},
}

// since returns the first opset that has op, MinOpset for those that were there before.
func since(op string) int64 {
	for _, row := range firstOpset {
		for name := range strings.FieldsSeq(row.ops) {
			if name == op {
				return row.opset
			}
		}
	}
	return MinOpset
}
