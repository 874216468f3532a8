package cluster

import (
	"reflect"
	"testing"

	"github.com/pyro-cluster/pyro-cluster/fsm"
)

// FuzzMessages: what other nodes send is parsed or refused, and what was parsed is written as it was read.
func FuzzMessages(f *testing.F) {
	peers := []peer{{"n-1", "h:1"}, {"n-2", "h:2"}}
	f.Add((&preamble{kindRaft, registryGroup, "c-1", "n-1", "h:1", "n-2"}).append(nil))
	f.Add((&handshakeReply{statusWrongCluster, "c-2", "n-2", "no"}).append(nil))
	f.Add((&status{peer: peers[0], cluster: "c", promise: "p", bound: true, round: 1, expect: 3, term: 300, leader: peers[1]}).append(nil))
	f.Add((&promiseRequest{promise: promise{Cluster: "c", Coordinator: "n-1", Members: peers}, expect: 2, round: 7}).append(nil))
	f.Add(appendResult(nil, fsm.Result{Code: 1, Count: -2, Revision: 300, Text: "t"}))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, b []byte) {
		type message interface {
			append([]byte) []byte
			parse([]byte) error
		}
		for _, fresh := range []func() message{
			func() message { return &preamble{} },
			func() message { return &handshakeReply{} },
			func() message { return &status{} },
			func() message { return &promiseRequest{} },
		} {
			m := fresh()
			if m.parse(b) != nil {
				continue
			}
			again := fresh()
			if err := again.parse(m.append(nil)); err != nil || !reflect.DeepEqual(m, again) {
				t.Errorf("%x: read %+v, written and read again %+v, %v", b, m, again, err)
			}
		}
		if r, err := parseResult(b); err == nil {
			if again, err := parseResult(appendResult(nil, r)); err != nil || again != r {
				t.Errorf("%x: read %+v, written and read again %+v, %v", b, r, again, err)
			}
		}
	})
}
