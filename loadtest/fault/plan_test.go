package fault

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func specs(t *testing.T, texts ...string) []Spec {
	t.Helper()
	var all []Spec
	for _, text := range texts {
		s, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

func TestPlan(t *testing.T) {
	t.Parallel()
	seconds := func(all ...float64) (times []time.Duration) {
		for _, s := range all {
			times = append(times, time.Duration(s*float64(time.Second)))
		}
		return times
	}
	for _, tt := range []struct {
		name  string
		specs []string
		want  []time.Duration
		err   string
	}{
		{"nothing", nil, seconds(), ""},
		{"in order of time", []string{"kill:replica@7s", "reset:all@2s"}, seconds(2, 7), ""},
		{"until the end", []string{"pause:replica@7s+3s"}, seconds(7), ""},
		{"beyond the end", []string{"pause:replica@7s+3001ms"}, nil, "fault pause:replica@7s+3.001s: it would not be over before the end of the run, which takes 10s"},
		{"after the end", []string{"kill:replica@10s"}, nil, "fault kill:replica@10s: it would come after the end of the run, which takes 10s"},
		{"long after the end", []string{"pause:replica@2540400h+2540400h"}, nil, "it would come after the end"},
		{"repeated moments, not at the end itself", []string{"cut:replica@1s,every=3s"}, seconds(1, 4, 7), ""},
		{"repeated, the last one over at the end", []string{"pause:replica@1s+1500ms,every=2500ms"}, seconds(1, 3.5, 6, 8.5), ""},
		{"repeated, no room for a third", []string{"pause:replica@1s+2s,every=4s"}, seconds(1, 5), ""},
		{"two", []string{"pause:replica@1s+2s,every=4s", "reset:all@0s,every=5s"}, seconds(0, 1, 5, 5), ""},
		{"far too often", []string{"reset:replica@0s,every=1ns"}, nil, "more than 10000 times within 10s: choose a longer interval"},
		{"too often together", []string{"reset:replica@0s,every=2ms", "cut:replica@0s,every=1500us"}, nil, "fault cut:replica@0s,every=1.5ms: faults would come more than"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := Plan(specs(t, tt.specs...), 10*time.Second)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("Plan(%q) = %v, %v, want error %q", tt.specs, got, err, tt.err)
				}
				return
			}
			if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("Plan(%q) = %v, %v, want %v", tt.specs, got, err, tt.want)
			}
		})
	}
}

// A schedule that was not parsed is checked as well.
func TestPlanChecks(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		spec Spec
		want string
	}{
		{"empty", Spec{}, "no kind"},
		{"negative time", Spec{Kind: Reset, Target: "all", At: -1}, "negative"},
		{"negative interval", Spec{Kind: Reset, Target: "all", Every: -1}, "negative"},
		{"slow without a delay", Spec{Kind: Slow, Target: "all", Duration: 1}, "delay is for slow, which needs one"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got, err := Plan([]Spec{tt.spec}, time.Second); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Plan(%+v) = %v, %v, want error %q", tt.spec, got, err, tt.want)
			}
		})
	}
}
