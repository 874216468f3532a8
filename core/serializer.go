package core

import "fmt"

// Request is the payload of an INVOKE message.
type Request struct {
	Object string
	Method string
	Args   []any
	Kwargs map[string]any // nil is sent as None
}

// BytesAppender is a value that is sent as bytes: those that it appends to dst.  With msgpack they go straight into the message, so that a large
// []byte need not be made for it.  AppendBytes is called once.
type BytesAppender interface {
	AppendBytes(dst []byte) []byte
}

// Serializer turns payloads into bytes and back.  Implementations have no state and are safe for concurrent use.  Parsing never
// keeps data, never panics, and takes memory in proportion to len(data) however the message lies about its lengths.  Values
// that nest deeper than 200 levels, the request itself included, are errors in both directions: so are values that contain
// themselves.
//
// AppendRequest and AppendValue return dst as it was with an error if the format cannot express a value.
type Serializer interface {
	ID() uint8    // on the wire
	Name() string // "serpent", "marshal", "json", "msgpack", "xml"
	AppendRequest(dst []byte, r Request) ([]byte, error)
	ParseRequest(data []byte) (Request, error)
	AppendValue(dst []byte, v any) ([]byte, error)
	ParseValue(data []byte) (any, error)
}

// serializers are those of Pyro5.
var serializers = [...]Serializer{
	serpentSerializer{},
	marshalSerializer{},
	jsonSerializer{},
	msgpackSerializer{},
}

// SerializerByName returns "serpent", "marshal", "json" or "msgpack", which Pyro5 has, or "xml", which only programs of this project know.
func SerializerByName(name string) (Serializer, bool) {
	if name == (xmlSerializer{}).Name() {
		return xmlSerializer{}, true
	}
	for _, s := range serializers {
		if s.Name() == name {
			return s, true
		}
	}
	return nil, false
}

// SerializerByID returns the serializer with that id on the wire (protocol 502).
func SerializerByID(id uint8) (Serializer, bool) {
	if id == xmlID {
		return xmlSerializer{}, true
	}
	for _, s := range serializers {
		if s.ID() == id {
			return s, true
		}
	}
	return nil, false
}

// newRequest makes a request of the four values of its payload.
func newRequest(object, method, args, kwargs any) (Request, error) {
	var r Request
	var err error
	if r.Object, err = requestText(object, "object id"); err != nil {
		return r, err
	}
	if r.Method, err = requestText(method, "method"); err != nil {
		return r, err
	}
	if r.Args, err = requestArgs(args); err != nil {
		return r, err
	}
	r.Kwargs, err = requestKwargs(kwargs)
	return r, err
}

func requestText(v any, what string) (string, error) {
	s, ok := v.(string)
	if !ok {
		return "", fmt.Errorf("%s is %s, want str", what, pythonType(v))
	}
	return s, nil
}

func requestArgs(v any) ([]any, error) {
	switch v := v.(type) {
	case []any:
		return v, nil
	case Tuple:
		return v, nil
	}
	return nil, fmt.Errorf("arguments are %s, want tuple or list", pythonType(v))
}

func requestKwargs(v any) (map[string]any, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case map[string]any:
		return v, nil
	}
	return nil, fmt.Errorf("keyword arguments are %s, want dict with str keys", pythonType(v))
}
