package core

import "bytes"

// Raw, as the variable for the result of a call, takes the result as it came, not decoded, for programs that pass it on: a gateway to the web
// calls with the serializer "json" and has its answer (Pyro5: _pyroRawWireResponse).  Exceptions are errors as ever; [Serializer] encodes them again.
type Raw struct {
	Serializer string
	Data       []byte // inflated
}

// storeRaw stores a payload in out, if that takes it as it is.
func storeRaw(out any, s Serializer, payload []byte) bool {
	raw, ok := out.(*Raw)
	if ok {
		raw.Serializer, raw.Data = s.Name(), bytes.Clone(payload)
	}
	return ok
}
