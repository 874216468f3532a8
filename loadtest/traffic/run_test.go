package traffic

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestRate(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		load    Load
		service time.Duration
		want    float64 // calls a second
	}{
		{"closed, one caller", Load{Callers: 1, For: 10 * time.Second}, 10 * time.Millisecond, 100},
		{"closed, many callers", Load{Callers: 50, For: 10 * time.Second}, 20 * time.Millisecond, 2500},
		{"closed, with warm-up", Load{Callers: 8, For: 10 * time.Second, Warmup: 3 * time.Second}, 7 * time.Millisecond, 8 / 0.007},
		{"open, half of the capacity", Load{Callers: 20, Steps: []Step{{1000, 10 * time.Second}}}, 10 * time.Millisecond, 1000},
		{"open, nearly all of the capacity", Load{Callers: 10, Steps: []Step{{990, 10 * time.Second}}}, 10 * time.Millisecond, 990},
		{"open, with warm-up", Load{Callers: 20, Steps: []Step{{1000, 10 * time.Second}}, Warmup: time.Second}, 10 * time.Millisecond, 1000},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s, rec := measure(t, tt.load, takes(tt.service), RecorderOptions{})
				rate := float64(rec.Total.Good) / (rec.Total.To - rec.Total.From).Seconds()
				if rate < 0.98*tt.want || rate > 1.02*tt.want {
					t.Errorf("%+v, service time %v: measured %.1f calls a second, want %.1f", tt.load, tt.service, rate, tt.want)
				}
				if got := rec.Total.Hist; !near(got.ValueAtPercentile(0.1), tt.service) || !near(got.Max(), tt.service) {
					t.Errorf("latency %v to %v, want %v", time.Duration(got.ValueAtPercentile(0.1)), time.Duration(got.Max()), tt.service)
				}
				if !s.Kept() || s.Unsent != 0 || s.Due != rec.Total.Good || s.Begun != s.Due {
					t.Errorf("summary %+v, want all of %d calls due and begun", s, rec.Total.Good)
				}
				if s.Lag.Max() > int64(minLatency) {
					t.Errorf("lag %v in virtual time, want none", time.Duration(s.Lag.Max()))
				}
			})
		})
	}
}
