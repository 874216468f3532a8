package core

import (
	"fmt"
	"strings"
)

// What Pyro4 calls otherwise than Pyro5.

// unknown48 marks ids of serializers that this package does not have; with it they are none of protocol 502.
const unknown48 = 0x80

// serializerFrom48 returns the id that a serializer of protocol 48 has in protocol 502; false if nothing can have that id.
func serializerFrom48(id uint16) (uint8, bool) {
	switch id {
	case 1:
		return (serpentSerializer{}).ID(), true
	case 2:
		return (jsonSerializer{}).ID(), true
	case 3:
		return (marshalSerializer{}).ID(), true
	case 6:
		return (msgpackSerializer{}).ID(), true
	}
	return uint8(id) | unknown48, id < unknown48
}

// serializerTo48 is the inverse of serializerFrom48; ids that are none of protocol 502's stay what they are.
func serializerTo48(id uint8) uint16 {
	switch id {
	case (serpentSerializer{}).ID():
		return 1
	case (jsonSerializer{}).ID():
		return 2
	case (marshalSerializer{}).ID():
		return 3
	case (msgpackSerializer{}).ID():
		return 6
	}
	return uint16(id &^ unknown48)
}

// pyro4Serializers write the classes of Pyro4.  All serializers read both.
var pyro4Serializers = [...]Serializer{
	serpentSerializer{target{pyro4: true}},
	marshalSerializer{target{pyro4: true}},
	jsonSerializer{target{pyro4: true}},
	msgpackSerializer{target{pyro4: true}},
}

func pyro4SerializerByName(name string) (Serializer, bool) {
	for _, s := range pyro4Serializers {
		if s.Name() == name {
			return s, true
		}
	}
	return nil, false
}

// errSerializer48 is why a client of protocol 48 is refused.  Pickle and its relatives are programs: who reads them runs them.
func errSerializer48(id uint8) error {
	id &^= unknown48
	name, ok := map[uint8]string{4: "pickle", 5: "dill", 7: "cloudpickle"}[id]
	if !ok {
		name = "unknown"
	}
	return &wireError{SerializeError,
		fmt.Sprintf("message used serializer that is not accepted: %d (%s); use serpent, json, marshal or msgpack", id, name)}
}

const (
	errorsPrefix  = "Pyro5.errors."
	errors4Prefix = "Pyro4.errors."
	batchClass    = "Pyro5.core._ExceptionWrapper" // of an exception among the results of a batch
	daemonClass   = "Pyro5.server.Daemon"
)

// pyro4Classes are Pyro4's names of the classes that are not exceptions.
var pyro4Classes = []struct{ pyro5, pyro4 string }{
	{uriClass, "Pyro4.core.URI"},
	{proxyClass, "Pyro4.core.Proxy"},
	{daemonClass, "Pyro4.core.Daemon"},
	{batchClass, "Pyro4.futures._ExceptionWrapper"},
}

// pyro5Class returns Pyro5's name of a class.
func pyro5Class(class string) string {
	if !strings.HasPrefix(class, "Pyro4.") {
		return class
	}
	if name, ok := strings.CutPrefix(class, errors4Prefix); ok {
		return errorsPrefix + name
	}
	for _, c := range pyro4Classes {
		if class == c.pyro4 {
			return c.pyro5
		}
	}
	return class
}

// pyro4Class returns Pyro4's name of a class.
func pyro4Class(class string) string {
	if !strings.HasPrefix(class, "Pyro5.") {
		return class
	}
	if name, ok := strings.CutPrefix(class, errorsPrefix); ok {
		return errors4Prefix + name
	}
	for _, c := range pyro4Classes {
		if class == c.pyro5 {
			return c.pyro4
		}
	}
	return class
}

// pyro4Reduced is what reduce returned, for Pyro4: it changes the dicts that stand for objects.
func pyro4Reduced(v any) any {
	d, ok := v.(Dict)
	if !ok || len(d) == 0 || d[0].Key != any(classKey) {
		return v
	}
	class, _ := d[0].Value.(string)
	name := pyro4Class(class)
	if name == class {
		return v
	}
	changed := append(Dict{{classKey, name}}, d[1:]...)
	if class == proxyClass && len(changed) == 2 {
		if state, ok := changed[1].Value.(Tuple); ok && len(state) == 6 {
			changed[1].Value = proxyState4(state)
		}
	}
	return changed
}

// proxyState4 is the state of Pyro4's proxies: they have a timeout, an HMAC key and a number of retries before the serializer, and the handshake
// before the retries (Pyro4 core.py, Proxy.__getstate_for_dict__).
func proxyState4(s Tuple) Tuple { return Tuple{s[0], s[1], s[2], s[3], 0.0, nil, s[4], 0, s[5]} }

// proxyState5 is the state of a proxy as Pyro5 has it.  Pyro4's has 9 items, or 8 without the serializer; Pyrolite's has 7: no HMAC key either.  Their
// settings are those of the sender's program, its secrets not to be used by others.
func proxyState5(s []any) []any {
	switch len(s) {
	case 7:
		return append(s[:4:4], s[5], nil)
	case 8:
		return append(s[:4:4], s[6], nil)
	case 9:
		return append(s[:4:4], s[6], s[8])
	}
	return s
}
