package cluster

import (
	"context"
	"io"
	"log"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// raftLogger lets raft write to a slog.Logger.  Levels go down by one: what raft calls an error is mostly a peer that is down for
// a moment, and its information is of use to nobody but a developer.
type raftLogger struct {
	l    *slog.Logger
	name string
	args []any
}

var _ hclog.Logger = (*raftLogger)(nil)

func newRaftLogger(l *slog.Logger) hclog.Logger { return &raftLogger{l: l, name: "raft"} }

func raftLevel(level hclog.Level) slog.Level {
	switch level {
	case hclog.Error:
		return slog.LevelWarn
	case hclog.Warn:
		return slog.LevelInfo
	default:
		return slog.LevelDebug
	}
}

func (r *raftLogger) Log(level hclog.Level, msg string, args ...any) {
	ctx := context.Background() // the interface has none to pass on
	if at := raftLevel(level); r.l.Enabled(ctx, at) {
		r.l.Log(ctx, at, r.name+": "+msg, append(append([]any(nil), r.args...), args...)...)
	}
}

func (r *raftLogger) Trace(msg string, args ...any) { r.Log(hclog.Trace, msg, args...) }
func (r *raftLogger) Debug(msg string, args ...any) { r.Log(hclog.Debug, msg, args...) }
func (r *raftLogger) Info(msg string, args ...any)  { r.Log(hclog.Info, msg, args...) }
func (r *raftLogger) Warn(msg string, args ...any)  { r.Log(hclog.Warn, msg, args...) }
func (r *raftLogger) Error(msg string, args ...any) { r.Log(hclog.Error, msg, args...) }

func (r *raftLogger) enabled(level hclog.Level) bool {
	return r.l.Enabled(context.Background(), raftLevel(level))
}

func (r *raftLogger) IsTrace() bool        { return r.enabled(hclog.Trace) }
func (r *raftLogger) IsDebug() bool        { return r.enabled(hclog.Debug) }
func (r *raftLogger) IsInfo() bool         { return r.enabled(hclog.Info) }
func (r *raftLogger) IsWarn() bool         { return r.enabled(hclog.Warn) }
func (r *raftLogger) IsError() bool        { return r.enabled(hclog.Error) }
func (r *raftLogger) ImpliedArgs() []any   { return r.args }
func (r *raftLogger) Name() string         { return r.name }
func (r *raftLogger) SetLevel(hclog.Level) {}
func (r *raftLogger) GetLevel() hclog.Level {
	for _, level := range []hclog.Level{hclog.Debug, hclog.Warn, hclog.Error} {
		if r.enabled(level) {
			return level
		}
	}
	return hclog.Off
}

func (r *raftLogger) With(args ...any) hclog.Logger {
	return &raftLogger{r.l, r.name, append(append([]any(nil), r.args...), args...)}
}

func (r *raftLogger) Named(name string) hclog.Logger {
	return &raftLogger{r.l, r.name + "." + name, r.args}
}

func (r *raftLogger) ResetNamed(name string) hclog.Logger { return &raftLogger{r.l, name, r.args} }

func (r *raftLogger) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return slog.NewLogLogger(r.l.Handler(), slog.LevelDebug)
}

func (r *raftLogger) StandardWriter(o *hclog.StandardLoggerOptions) io.Writer {
	return r.StandardLogger(o).Writer()
}
