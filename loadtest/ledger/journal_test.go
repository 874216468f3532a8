package ledger

import (
	"errors"
	"iter"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync"
	"testing"
)

// holding returns a ledger in memory, which ends by err if that is not nil.
func holding(err error, ids ...ID) iter.Seq2[ID, error] {
	return func(yield func(ID, error) bool) {
		for _, id := range ids {
			if !yield(id, nil) {
				return
			}
		}
		if err != nil {
			yield(ID{}, err)
		}
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	const run = 7
	id := func(call uint32) ID { return NewID(run, 1, call) }
	type ledgers = [][]ID
	tests := []struct {
		name    string
		fates   []Fate // of the calls 0, 1, … of caller 1
		ledgers ledgers
		want    Verdict
	}{
		{"nothing", nil, nil, Verdict{}},
		{"ran once", []Fate{Acked, Acked}, ledgers{{id(0)}, {id(1)}}, Verdict{Calls: 2, Ran: 2}},
		{"not begun", []Fate{Unsent, Acked}, ledgers{{id(1)}}, Verdict{Calls: 1, Ran: 1}},
		{"twice in one servant", []Fate{Acked}, ledgers{{id(0), id(0)}},
			Verdict{Calls: 1, Ran: 1, Twice: 1, Examples: []string{"twice: caller 1, call 0"}}},
		{"twice in two servants", []Fate{Acked}, ledgers{{id(0)}, {id(0)}},
			Verdict{Calls: 1, Ran: 1, Twice: 1, Examples: []string{"twice: caller 1, call 0"}}},
		{"many times", []Fate{Acked, Acked}, ledgers{{id(0), id(0), id(0), id(1)}, {id(0), id(0), id(0)}},
			Verdict{Calls: 2, Ran: 2, Twice: 1, Examples: []string{"twice: caller 1, call 0"}}},
		{"acknowledged and never ran", []Fate{Acked, Acked}, ledgers{{id(0)}, {}},
			Verdict{Calls: 2, Ran: 1, Lost: 1, Examples: []string{"lost: caller 1, call 1"}}},
		{"no ledger", []Fate{Acked}, nil, Verdict{Calls: 1, Lost: 1, Examples: []string{"lost: caller 1, call 0"}}},
		{"oneway ran", []Fate{Sent}, ledgers{{id(0)}}, Verdict{Calls: 1, Ran: 1}},
		{"oneway never ran", []Fate{Sent}, ledgers{{}}, Verdict{Calls: 1, OnewayLost: 1}},
		{"oneway twice", []Fate{Sent}, ledgers{{id(0), id(0)}},
			Verdict{Calls: 1, Ran: 1, Twice: 1, Examples: []string{"twice: caller 1, call 0"}}},
		{"not executed", []Fate{NotExecuted}, ledgers{{}}, Verdict{Calls: 1}},
		{"not executed, and ran", []Fate{NotExecuted}, ledgers{{id(0)}},
			Verdict{Calls: 1, Ran: 1, Phantom: 1, Examples: []string{"phantom: caller 1, call 0"}}},
		{"not executed, and ran twice", []Fate{NotExecuted}, ledgers{{id(0), id(0)}},
			Verdict{Calls: 1, Ran: 1, Twice: 1, Phantom: 1, Examples: []string{"twice: caller 1, call 0", "phantom: caller 1, call 0"}}},
		{"unknown, and ran", []Fate{Unknown}, ledgers{{id(0)}}, Verdict{Calls: 1, Ran: 1, Unknown: 1, UnknownRan: 1}},
		{"unknown, and never ran", []Fate{Unknown}, ledgers{{}}, Verdict{Calls: 1, Unknown: 1}},
		{"unknown, and ran twice", []Fate{Unknown}, ledgers{{id(0)}, {id(0)}},
			Verdict{Calls: 1, Ran: 1, Twice: 1, Unknown: 1, UnknownRan: 1, Examples: []string{"twice: caller 1, call 0"}}},
		{"of another run", []Fate{Acked}, ledgers{{id(0), NewID(run+1, 1, 0), NewID(run+1, 9, 9), {}}}, Verdict{Calls: 1, Ran: 1}},
		{"call that nobody made", []Fate{Acked}, ledgers{{id(0), id(1), id(1)}},
			Verdict{Calls: 1, Ran: 1, Strangers: 2, Examples: []string{"stranger: caller 1, call 1", "stranger: caller 1, call 1"}}},
		{"call far away", nil, ledgers{{id(math.MaxUint32)}},
			Verdict{Strangers: 1, Examples: []string{"stranger: caller 1, call 4294967295"}}},
		{"caller that is none", nil, ledgers{{NewID(run, 2, 0), NewID(run, math.MaxUint32, 0)}},
			Verdict{Strangers: 2, Examples: []string{"stranger: caller 2, call 0", "stranger: caller 4294967295, call 0"}}},
		{"call that was not begun", []Fate{Unsent}, ledgers{{id(0)}},
			Verdict{Strangers: 1, Examples: []string{"stranger: caller 1, call 0"}}},
		{"few examples", []Fate{Acked, Acked, Acked, Acked, NotExecuted}, ledgers{{id(4)}},
			Verdict{Calls: 5, Ran: 1, Lost: 4, Phantom: 1, Examples: []string{
				"lost: caller 1, call 0", "lost: caller 1, call 1", "lost: caller 1, call 2", "phantom: caller 1, call 4"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			j := NewJournal(run, 2)
			for i, f := range tt.fates {
				j.Note(id(uint32(i)), f)
			}
			var all []iter.Seq2[ID, error]
			for _, ids := range tt.ledgers {
				all = append(all, holding(nil, ids...))
			}
			for range 2 { // the first leaves no traces
				if got, err := j.Judge(all...); err != nil || !reflect.DeepEqual(got, tt.want) {
					t.Errorf("fates %v, ledgers %x:\ngot  %+v, %v\nwant %+v", tt.fates, tt.ledgers, got, err, tt.want)
				}
			}
		})
	}
}

// What the other ledgers have counts, and the error says which one it was.
func TestJudgeWithALedgerThatFails(t *testing.T) {
	t.Parallel()
	j := NewJournal(7, 1)
	ids := numbered(0, 3)
	for _, id := range ids {
		j.Note(id, Acked)
	}
	broken := errors.New("broken")
	v, err := j.Judge(holding(broken, ids[0]), holding(nil, ids[1]))
	if v.Ran != 2 || v.Lost != 1 || !errors.Is(err, broken) || !strings.Contains(err.Error(), "ledger 1 of 2") {
		t.Errorf("got %+v, %v, want 2 that ran, 1 lost, and the error of ledger 1 of 2", v, err)
	}
}

// The journal agrees with a map, whatever is noted in whatever order.
func TestJournalKeepsWhatWasNoted(t *testing.T) {
	t.Parallel()
	const callers, notes = 3, 5_000
	rng := rand.New(rand.NewPCG(1, 2))
	j := NewJournal(7, callers)
	want := make(map[ID]Fate)
	for range notes {
		id, f := NewID(7, rng.Uint32N(callers), rng.Uint32N(2_000)), Fate(rng.UintN(fates))
		j.Note(id, f)
		want[id] = f
	}
	for caller := range uint32(callers) {
		for call := range uint32(2_100) {
			got, want := j.callers[caller].get(call), want[NewID(7, caller, call)]
			if got.fate() != want || got.seen() != 0 {
				t.Fatalf("caller %d, call %d: got fate %d, seen %d, want fate %d", caller, call, got.fate(), got.seen(), want)
			}
		}
	}
}

func TestPlace(t *testing.T) {
	t.Parallel()
	tests := []struct {
		call  uint32
		chunk int
		at    uint64
	}{
		{0, 0, 0}, {127, 0, 127}, {128, 1, 0}, {383, 1, 255}, {384, 2, 0}, {math.MaxUint32, 25, 127},
	}
	for _, tt := range tests {
		if chunk, at := place(tt.call); chunk != tt.chunk || at != tt.at {
			t.Errorf("place(%d): got %d, %d, want %d, %d", tt.call, chunk, at, tt.chunk, tt.at)
		}
	}
}

func TestNoteOfCallersAtTheSameTime(t *testing.T) {
	t.Parallel()
	const callers, calls = 8, 1_000
	j := NewJournal(7, callers)
	var wg sync.WaitGroup
	for caller := range uint32(callers) {
		wg.Go(func() {
			for _, id := range numbered(caller, calls) {
				j.Note(id, Unknown)
			}
		})
	}
	wg.Wait()
	if v, err := j.Judge(); err != nil || v.Calls != callers*calls || v.Unknown != callers*calls {
		t.Errorf("got %+v, %v, want %d calls", v, err, callers*calls)
	}
}

func TestNoteOfAStranger(t *testing.T) {
	t.Parallel()
	for name, note := range map[string]func(j *Journal){
		"run":    func(j *Journal) { j.Note(NewID(8, 0, 0), Acked) },
		"caller": func(j *Journal) { j.Note(NewID(7, 1, 0), Acked) },
		"fate":   func(j *Journal) { j.Note(NewID(7, 0, 0), fates) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := NewJournal(7, 1)
			defer func() {
				if r := recover(); r == nil {
					t.Error("no panic")
				}
			}()
			note(j)
		})
	}
}

// A million calls of one caller take 4 bits each, and less than twice that with what is kept free.
func TestJournalIsSmall(t *testing.T) {
	t.Parallel()
	const calls = 1 << 20
	j := NewJournal(7, 1)
	for _, id := range numbered(0, calls) {
		j.Note(id, Acked)
	}
	total := 0
	for _, chunk := range j.callers[0].chunks {
		total += len(chunk)
	}
	if total > calls {
		t.Errorf("%d bytes for %d calls, want at most 8 bits for each", total, calls)
	}
}

func TestNoteAllocatesNothing(t *testing.T) {
	j := NewJournal(7, 1)
	call := uint32(0)
	if n := testing.AllocsPerRun(10_000, func() {
		j.Note(NewID(7, 0, call), Acked)
		call++
	}); n != 0 {
		t.Errorf("Note: %v allocations a call, want 0", n)
	}
}

func BenchmarkNote(b *testing.B) {
	j := NewJournal(7, 1024)
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		call := uint32(0)
		for b.Loop() {
			j.Note(NewID(7, 0, call), Acked)
			call++
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		var mu sync.Mutex
		next := uint32(1)
		b.RunParallel(func(pb *testing.PB) {
			mu.Lock()
			caller := next
			next = next%1023 + 1
			mu.Unlock()
			for call := uint32(0); pb.Next(); call++ {
				j.Note(NewID(7, caller, call), Acked)
			}
		})
	})
}

func BenchmarkJudge(b *testing.B) {
	const calls = 1 << 20
	j := NewJournal(7, 1)
	ids := numbered(0, calls)
	for _, id := range ids {
		j.Note(id, Acked)
	}
	for b.Loop() {
		if v, err := j.Judge(holding(nil, ids...)); err != nil || v.Ran != calls {
			b.Fatalf("%+v, %v", v, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/calls, "ns/call")
}
