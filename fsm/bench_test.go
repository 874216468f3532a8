package fsm

import (
	"bytes"
	"fmt"
	"io"
	"testing"
)

// stateOf returns a state with so many names, 10,000 under each prefix.
func stateOf(b *testing.B, names int) *State {
	s := New()
	const perEntry = 1000
	for from := 0; from < names; from += perEntry {
		commands := make([]Command, min(perEntry, names-from))
		for i := range commands {
			commands[i] = benchRegister(from + i)
		}
		apply(b, s, commands...)
	}
	return s
}

func benchRegister(i int) Command {
	return Command{Kind: KindRegister, Name: fmt.Sprintf("app%d.object%06d", i/10_000, i), URI: fmt.Sprintf("PYRO:obj_%032x@10.0.0.1:%d", i, 9090+i%100), Tags: []string{"class:bench"}}
}

// One register per log entry, overwriting one of 100,000 names; with a session as clients have one, and without.
func BenchmarkApplyRegister(b *testing.B) {
	const names = 100_000
	for _, session := range []string{"", "client"} {
		b.Run(fmt.Sprintf("session=%t", session != ""), func(b *testing.B) {
			s := stateOf(b, names)
			entries := make([][]byte, 4096)
			for i := range entries {
				c := benchRegister(i * 7919 % names)
				if session != "" {
					c.Session, c.Sequence, c.Floor = fmt.Sprint(session, i%64), uint64(i/64)+1, uint64(i/64)
				}
				entries[i] = encode(b, c)
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if i%len(entries) == 0 && session != "" { // else they would be repetitions
					s.view.Store(withoutSessions(s.View()))
				}
				if _, err := s.Apply(uint64(i), entries[i%len(entries)]); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
}

func withoutSessions(v *View) *View {
	w := *v
	w.sessions = sessions{}
	return &w
}

// 64 registers in one log entry, as under load.
func BenchmarkApplyRegister64(b *testing.B) {
	s := stateOf(b, 100_000)
	commands := make([]Command, 64)
	for i := range commands {
		commands[i] = benchRegister(i * 1571)
	}
	entry := encode(b, commands...)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Apply(1, entry); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(commands)), "ns/command")
}

func BenchmarkEncodeEntry(b *testing.B) {
	commands := []Command{benchRegister(1)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := EncodeEntry(commands); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkViewEntry(b *testing.B) {
	s := stateOf(b, 100_000)
	name := benchRegister(54_321).Name
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := s.View().Entry(name); !ok {
			b.Fatal(name)
		}
	}
}

func BenchmarkListPrefix10000(b *testing.B) {
	v := stateOf(b, 100_000).View()
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for range v.Entries("app7.") {
			n++
		}
		if n != 10_000 {
			b.Fatal(n)
		}
	}
}

func BenchmarkPersist100000(b *testing.B) {
	v := stateOf(b, 100_000).View()
	b.ReportAllocs()
	for b.Loop() {
		if err := v.Persist(io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRestore100000(b *testing.B) {
	snapshot := persist(b, stateOf(b, 100_000).View())
	b.ReportAllocs()
	b.SetBytes(int64(len(snapshot)))
	s := New()
	for b.Loop() {
		if err := s.Restore(bytes.NewReader(snapshot)); err != nil {
			b.Fatal(err)
		}
	}
}
