package ledger

import (
	"errors"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
)

// collect returns what a ledger yields, and the error that ended it.
func collect(l iter.Seq2[ID, error]) (ids []ID, err error) {
	for id, err := range l {
		if err != nil {
			return ids, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// numbered returns the ids of a caller's first calls in run 7.
func numbered(caller uint32, n int) []ID {
	ids := make([]ID, n)
	for i := range ids {
		ids[i] = NewID(7, caller, uint32(i))
	}
	return ids
}

// file is a ledger as it stands on disk.
func file(ids ...ID) string {
	out := string(header[:])
	for _, id := range ids {
		out += string(id[:])
	}
	return out
}

func write(t testing.TB, path string, ids ...ID) {
	t.Helper()
	w, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if err := w.Append(id); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), w.Close()); err != nil {
		t.Fatal(err)
	}
	if err := w.Append(ID{}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Append after Close: %v, want %v", err, os.ErrClosed)
	}
}

func TestID(t *testing.T) {
	t.Parallel()
	got := NewID(0x0102030405060708, 0x090a0b0c, 0x0d0e0f10)
	want := ID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	if got != want || got.Run() != 0x0102030405060708 || got.Caller() != 0x090a0b0c || got.Call() != 0x0d0e0f10 {
		t.Errorf("NewID: got %x, run %#x, caller %#x, call %#x, want %x", got, got.Run(), got.Caller(), got.Call(), want)
	}
}

func TestWriteAndRead(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger")
	ids := numbered(1, 3)
	write(t, path, ids[0], ids[1])
	write(t, path, ids[2], ids[0])
	want := []ID{ids[0], ids[1], ids[2], ids[0]}
	if got, err := collect(ReadFile(path)); err != nil || !slices.Equal(got, want) {
		t.Errorf("read: got %x, %v, want %x", got, err, want)
	}
	data, err := os.ReadFile(path)
	if err != nil || string(data) != file(want...) {
		t.Errorf("file: got %q, %v, want %q", data, err, file(want...))
	}
	// Two processes that made the file at the same moment have both written a header.
	if got, err := collect(Read(strings.NewReader(file(header, ids[0])))); err != nil || !slices.Equal(got, ids[:1]) {
		t.Errorf("read with a second header: got %x, %v, want %x", got, err, ids[:1])
	}
	for range ReadFile(path) { // and stop early
		break
	}
	got, err := collect(Read(iotest.OneByteReader(strings.NewReader(file(want...)))))
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("read byte by byte: got %x, %v, want %x", got, err, want)
	}
}

// Nothing may be lost or mixed up when several writers with files of their own append at the same time, as processes do.
func TestConcurrentWriters(t *testing.T) {
	t.Parallel()
	const writers, callers, calls = 3, 2, 200
	path := filepath.Join(t.TempDir(), "ledger")
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			w, err := Create(path)
			if err != nil {
				t.Error(err)
				return
			}
			defer w.Close()
			var group sync.WaitGroup
			for k := range callers {
				group.Go(func() {
					for _, id := range numbered(uint32(i*callers+k), calls) {
						if err := w.Append(id); err != nil {
							t.Error(err)
						}
					}
				})
			}
			group.Wait()
		})
	}
	wg.Wait()
	got, err := collect(ReadFile(path))
	next := make([]uint32, writers*callers)
	for _, id := range got {
		if id.Run() != 7 || int(id.Caller()) >= len(next) || id.Call() != next[id.Caller()] {
			t.Fatalf("got %x, want the calls of each caller in order", id)
		}
		next[id.Caller()]++
	}
	if err != nil || len(got) != writers*callers*calls {
		t.Errorf("got %d ids, %v, want %d", len(got), err, writers*callers*calls)
	}
}

func TestCreateTakesOverAFile(t *testing.T) {
	t.Parallel()
	one, two := NewID(7, 0, 1), NewID(7, 0, 2)
	tests := []struct {
		name, before, after string
		err                 string
	}{
		{name: "empty", before: "", after: file(two)},
		{name: "header cut short", before: file()[:5], after: file(two)},
		{name: "header", before: file(), after: file(two)},
		{name: "records", before: file(one), after: file(one, two)},
		{name: "a byte of a record", before: file(one) + "x", after: file(one, two)},
		{name: "record cut short", before: file(one) + file()[:15], after: file(one, two)},
		{name: "other file", before: "something of the user's", after: "something of the user's", err: "name another file"},
		{name: "short other file", before: "x", after: "x", err: `begins with "x"`},
		{name: "other version", before: "pyro-ledger v2\n\x00", after: "pyro-ledger v2\n\x00", err: "name another file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "ledger")
			if err := os.WriteFile(path, []byte(tt.before), 0o600); err != nil {
				t.Fatal(err)
			}
			w, err := Create(path)
			if tt.err == "" {
				if err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(w.Append(two), w.Close()); err != nil {
					t.Fatal(err)
				}
			} else if err == nil || !strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "\n") {
				t.Errorf("Create: %v, want one line with %q", err, tt.err)
			}
			if after, err := os.ReadFile(path); err != nil || string(after) != tt.after {
				t.Errorf("afterwards: got %q, %v, want %q", after, err, tt.after)
			}
		})
	}
}

func TestCreateErrors(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]string{
		"directory":    t.TempDir(),
		"no directory": filepath.Join(t.TempDir(), "none", "ledger"),
		"device":       os.DevNull,
	} {
		w, err := Create(path)
		if err == nil {
			w.Close()
		}
		if err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: Create(%q): %v, want an error that names it", name, path, err)
		}
	}
}

func TestAppendToAFullDisk(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	w := &Writer{file: full}
	for range 2 {
		if err := w.Append(ID{}); err == nil || !strings.Contains(err.Error(), "no space left") {
			t.Errorf("Append: %v, want no space left", err)
		}
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

// limited is a file that takes so many bytes.
type limited struct {
	strings.Builder
	room int
}

var errFull = errors.New("full")

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.room)
	l.Builder.Write(p[:n])
	l.room -= n
	if n < len(p) {
		return n, errFull
	}
	return n, nil
}

func (l *limited) Close() error { return nil }

func TestAppendAfterAnError(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		room  int // for the first record
		torn  bool
		after string // in the file after a second record, with room
	}{
		{"nothing was written", 0, false, string(header[:])},
		{"a part was written", 5, true, string(header[:5])},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := &limited{room: tt.room}
			w := &Writer{file: f}
			if err := w.Append(header); !errors.Is(err, errFull) {
				t.Errorf("Append: %v, want %v", err, errFull)
			}
			f.room = 100
			if err := w.Append(header); errors.Is(err, errFull) != tt.torn {
				t.Errorf("Append with room: %v, want an error: %v", err, tt.torn)
			}
			if f.String() != tt.after {
				t.Errorf("file: %q, want %q", f.String(), tt.after)
			}
		})
	}
}

func TestAppendAllocatesNothing(t *testing.T) {
	w, err := Create(filepath.Join(t.TempDir(), "ledger"))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if n := testing.AllocsPerRun(100, func() {
		if err := w.Append(ID{}); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("Append: %v allocations, want 0", n)
	}
}

func TestReadErrors(t *testing.T) {
	t.Parallel()
	id := NewID(7, 0, 1)
	broken := errors.New("broken")
	tests := []struct {
		name string
		r    io.Reader
		ids  int // before the error
		want error
		text string
	}{
		{"empty", strings.NewReader(""), 0, io.ErrUnexpectedEOF, "0 bytes"},
		{"header cut short", strings.NewReader(file()[:15]), 0, io.ErrUnexpectedEOF, "15 bytes"},
		{"no ledger", strings.NewReader("a text of some length"), 0, nil, "name another file"},
		{"record cut short", strings.NewReader(file(id, id)[:47]), 1, io.ErrUnexpectedEOF, "read record"},
		{"reader fails at once", iotest.ErrReader(broken), 0, broken, "read header"},
		{"reader fails", io.MultiReader(strings.NewReader(file(id)), iotest.ErrReader(broken)), 1, broken, "read record"},
		{"reader fails within a record", io.MultiReader(strings.NewReader(file(id)+"x"), iotest.ErrReader(broken)), 1, broken, "read record"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ids, err := collect(Read(tt.r))
			if len(ids) != tt.ids || err == nil || !strings.Contains(err.Error(), tt.text) || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("got %d ids, %v, want %d and %q (%v)", len(ids), err, tt.ids, tt.text, tt.want)
			}
		})
	}
	path := filepath.Join(t.TempDir(), "ledger")
	if _, err := collect(ReadFile(path)); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("no file: %v, want %v of %s", err, os.ErrNotExist, path)
	}
	if err := os.WriteFile(path, []byte(file(id)+"x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if ids, err := collect(ReadFile(path)); len(ids) != 1 || !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), path) {
		t.Errorf("file cut short: got %x, %v, want one id and %v of %s", ids, err, io.ErrUnexpectedEOF, path)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(file(numbered(1, 2)...)))
	f.Add([]byte(file() + file() + "x"))
	f.Add([]byte("pyro"))
	f.Fuzz(func(t *testing.T, data []byte) {
		ids, err := collect(Read(strings.NewReader(string(data))))
		if !strings.HasPrefix(string(data), file()) {
			if err == nil || ids != nil {
				t.Fatalf("no ledger: got %x, %v", ids, err)
			}
			return
		}
		if torn := len(data)%16 != 0; torn != errors.Is(err, io.ErrUnexpectedEOF) || torn != (err != nil) {
			t.Fatalf("%d bytes: %v", len(data), err)
		}
		if want := len(data)/16 - 1; strings.Count(string(data), file()) == 1 && len(ids) != want {
			t.Fatalf("%d bytes: got %d ids, want %d", len(data), len(ids), want)
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	w, err := Create(filepath.Join(b.TempDir(), "ledger"))
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := w.Append(ID{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := w.Append(ID{}); err != nil {
					b.Error(err)
				}
			}
		})
	})
}
