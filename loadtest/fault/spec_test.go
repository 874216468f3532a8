package fault

import (
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, text string
		want       Spec
		canonical  string // empty: text
	}{
		{"for ever", "kill:replica@10s", Spec{Kind: Kill, Target: "replica", At: 10 * time.Second}, ""},
		{"at the start", "stop:all@0s", Spec{Kind: Stop, Target: "all"}, ""},
		{"lasting", "pause:leader@20s+3s", Spec{Kind: Pause, Target: "leader", At: 20 * time.Second, Duration: 3 * time.Second}, ""},
		{"repeated", "kill:replica2@5s+2s,every=5s", Spec{Kind: Kill, Target: "replica2", At: 5 * time.Second, Duration: 2 * time.Second, Every: 5 * time.Second}, ""},
		{"repeated moment", "reset:replicas@5s,every=250ms", Spec{Kind: Reset, Target: "replicas", At: 5 * time.Second, Every: 250 * time.Millisecond}, ""},
		{"delay", "slow:replicas@10s+5s,delay=50ms", Spec{Kind: Slow, Target: "replicas", At: 10 * time.Second, Duration: 5 * time.Second, Delay: 50 * time.Millisecond}, ""},
		{"delay by default", "slow:node3@1s+1s", Spec{Kind: Slow, Target: "node3", At: time.Second, Duration: time.Second, Delay: 100 * time.Millisecond}, "slow:node3@1s+1s,delay=100ms"},
		{
			"options in another order", "slow:follower@90s+1s,delay=1ms,every=2s",
			Spec{Kind: Slow, Target: "follower", At: 90 * time.Second, Duration: time.Second, Every: 2 * time.Second, Delay: time.Millisecond},
			"slow:follower@1m30s+1s,every=2s,delay=1ms",
		},
		{"half-open", "half-open:python1@1s+1s", Spec{Kind: HalfOpen, Target: "python1", At: time.Second, Duration: time.Second}, ""},
		{"restart", "restart:nodes@1s", Spec{Kind: Restart, Target: "nodes", At: time.Second}, ""},
		{"cut", "cut:replica@1s", Spec{Kind: Cut, Target: "replica", At: time.Second}, ""},
		{"partition", "partition:leader@1s+1s", Spec{Kind: Partition, Target: "leader", At: time.Second, Duration: time.Second}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := Parse(tt.text)
			if err != nil || got != tt.want {
				t.Fatalf("Parse(%q) = %+v, %v, want %+v", tt.text, got, err, tt.want)
			}
			want := tt.canonical
			if want == "" {
				want = tt.text
			}
			if got.String() != want {
				t.Errorf("Parse(%q).String() = %q, want %q", tt.text, got, want)
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, text, want string }{
		{"nothing", "", "no time: write kind:target@when"},
		{"no time", "kill:replica", "no time: write kind:target@when"},
		{"empty time", "kill:replica@", `time "" is no time`},
		{"no unit", "kill:replica@10", `time "10" is no time`},
		{"negative time", "kill:replica@-1s", `time "-1s" is no time`},
		{"two durations", "kill:replica@1s++1s", `duration "+1s" is no time`},
		{"no duration behind +", "kill:replica@1s+", `duration "" is no time`},
		{"duration of nothing", "pause:replica@1s+0s", `duration "0s": has to be longer`},
		{"no target", "kill@3s", "no target: use one of replica, leader, follower, replicas, nodes, all"},
		{"empty target", "kill:@3s", "no target: use one of replica"},
		{"unknown target", "kill:database@3s", `no target "database": use one of replica`},
		{"target 0", "kill:node0@3s", `no target "node0"`},
		{"signed number", "kill:node+1@3s", `no target "node+1"`},
		{"leading zero", "kill:node01@3s", `no target "node01"`},
		{"huge number", "kill:node12345678901234567890@3s", `no target "node12345678901234567890"`},
		{"python without a number", "kill:python@3s", `no target "python"`},
		{"unknown kind", "explode:replica@3s", `no kind "explode": use one of kill, pause, stop, restart, slow, half-open, reset, cut, partition`},
		{"no kind", ":replica@3s", `no kind "": use one of kill`},
		{"pause for ever", "pause:replica@3s", "pause needs a duration: write pause:replica@3s+3s"},
		{"slow for ever", "slow:replica@3s", "slow needs a duration"},
		{"half-open for ever", "half-open:replica@3s", "half-open needs a duration"},
		{"partition for ever", "partition:replica@3s", "partition needs a duration"},
		{"restart that lasts", "restart:replica@3s+1s", "restart happens in a moment: leave out +1s"},
		{"reset that lasts", "reset:replica@3s+1s", "reset happens in a moment"},
		{"cut that lasts", "cut:replica@3s+1s", "cut happens in a moment"},
		{"every as long as the duration", "pause:replica@3s+2s,every=2s", "every=2s has to be longer than the duration, 2s"},
		{"kill until nothing is left", "kill:replica@3s,every=2s", "kill again and again needs a duration"},
		{"stop until nothing is left", "stop:replica@3s,every=2s", "stop again and again needs a duration"},
		{"every of nothing", "reset:replica@3s,every=0s", `every "0s": has to be longer`},
		{"every without a value", "reset:replica@3s,every", `every "" is no time`},
		{"delay of something else", "pause:replica@3s+1s,delay=1s", "delay is for slow"},
		{"delay of nothing", "slow:replica@3s+1s,delay=0s", `delay "0s": has to be longer`},
		{"unknown option", "kill:replica@3s,often=1s", `option "often=1s": there are every=interval and delay=time`},
		{"empty option", "kill:replica@3s,", `option ""`},
		{"option twice", "reset:replica@3s,every=1s,every=2s", `option "every=2s": there are every=interval and delay=time, each once`},
		{"a line break", "kill:re\nplica@3s", `no target "re\nplica"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := Parse(tt.text)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("Parse(%q) = %+v, %v, want an error of one line with %q", tt.text, got, err, tt.want)
			}
			if got != (Spec{}) {
				t.Errorf("Parse(%q) = %+v beside its error, want nothing", tt.text, got)
			}
		})
	}
}

func TestOnLink(t *testing.T) {
	t.Parallel()
	want := map[Kind]bool{Slow: true, HalfOpen: true, Reset: true, Cut: true, Partition: true}
	for _, k := range []Kind{Kill, Pause, Stop, Restart, Slow, HalfOpen, Reset, Cut, Partition, "unknown"} {
		if k.OnLink() != want[k] {
			t.Errorf("%q.OnLink() = %v, want %v", k, k.OnLink(), want[k])
		}
	}
}

// FuzzParse checks that a schedule is read again as it was written, and that planning it ends.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"kill:replica@10s", "pause:leader@20s+3s", "kill:replica@5s+2s,every=5s", "slow:replicas@10s+5s,delay=50ms", "reset:node1@1ns,every=1ns",
		"slow:all@2540400h+1ns,every=2540400h,delay=2540400h", "kill:@", "@:+,=",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse(text)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r") {
				t.Errorf("Parse(%q): %q is not one line", text, err)
			}
			return
		}
		if again, err := Parse(s.String()); err != nil || again != s {
			t.Errorf("Parse(%q) = %+v, whose text %q gives %+v, %v", text, s, s, again, err)
		}
		for _, length := range []time.Duration{time.Minute, 1<<63 - 1} {
			times, err := Plan([]Spec{s, s}, length)
			if err == nil && (len(times) < 2 || len(times) > maxRounds) {
				t.Errorf("Plan(%q, %v) has %d times", text, length, len(times))
			}
			for _, at := range times {
				if at < s.At || at >= length || s.Duration > length-at {
					t.Errorf("Plan(%q, %v) has %v", text, length, at)
				}
			}
		}
	})
}
