package quantsim

// patterns is step 8: chains that exporters write out and targets run as one
// operator. Only the final output is quantized.
func (p *placement) patterns() {}
