package nn

func gridOps() []OpDef { return nil }
func detectOps() []OpDef  { return nil }
func rnnOps() []OpDef     { return nil }
func controlOps() []OpDef { return nil }
func quantOps() []OpDef   { return nil }
