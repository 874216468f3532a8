package core

import "testing"

// benchmarkRequest is a call with simple arguments.
var benchmarkRequest = Request{"Pyro.NameServer", "register", []any{"bank", int64(1000), 2.5, true}, map[string]any{"safe": true}}

func BenchmarkAppendRequest(b *testing.B) {
	for _, s := range serializers {
		b.Run(s.Name(), func(b *testing.B) {
			b.ReportAllocs()
			buf := make([]byte, 0, 1024)
			for b.Loop() {
				if _, err := s.AppendRequest(buf, benchmarkRequest); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParseRequest(b *testing.B) {
	for _, s := range serializers {
		b.Run(s.Name(), func(b *testing.B) {
			b.ReportAllocs()
			data, err := s.AppendRequest(nil, benchmarkRequest)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if _, err := s.ParseRequest(data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkParseList reads a list of 10,000 floats.
func BenchmarkParseList(b *testing.B) {
	list := make([]any, 10000)
	for i := range list {
		list[i] = float64(i) / 7
	}
	for _, s := range serializers {
		b.Run(s.Name(), func(b *testing.B) {
			b.ReportAllocs()
			data, err := s.AppendValue(nil, list)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				if _, err := s.ParseValue(data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
