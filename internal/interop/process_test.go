package interop

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience bounds every wait for another program: far more than anything takes on a busy machine.
const patience = 60 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// interpreter returns the Python that has the packages of requirements.txt.
func interpreter(t *testing.T) string {
	t.Helper()
	path := os.Getenv("PCLUSTER_PYTHON")
	if path == "" {
		path = filepath.Join("..", "..", ".venv", "bin", "python")
	}
	path, err := filepath.Abs(path)
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		t.Fatalf("no Python with Pyro5: %v: run make venv (scripts/venv.sh)", err)
	}
	return path
}

// command is a Python command in an environment without settings of the user's.
func command(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	scripts, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(interpreter(t), args...)
	for _, setting := range os.Environ() {
		if !strings.HasPrefix(setting, "PYRO") && !strings.HasPrefix(setting, "PYTHON") {
			cmd.Env = append(cmd.Env, setting)
		}
	}
	cmd.Env = append(cmd.Env,
		"PYTHONPATH="+scripts, "PYTHONDONTWRITEBYTECODE=1", "PYTHONUNBUFFERED=1", "PYTHONHASHSEED=0", "PYTHONWARNINGS=ignore", "TZ=UTC")
	cmd.Env = append(cmd.Env, env...)
	cmd.Dir = t.TempDir()
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// run runs a Python program to its end.
func run(t *testing.T, env []string, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := command(t, env, args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %q: %v", args, err)
	}
	late := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	err := cmd.Wait()
	if !late.Stop() {
		t.Fatalf("%q did not end in %v: output:\n%s\n%s", args, patience, &out, &errs)
	}
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatalf("run %q: %v", args, err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// script is the path of a file in testdata.
func script(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// runChecks runs a script that ends by checks.run(), and makes a subtest of each of its checks.
func runChecks(t *testing.T, env []string, name string, args ...string) {
	t.Helper()
	stdout, stderr, code := run(t, env, "", append([]string{script(t, name)}, args...)...)
	count, total := 0, -1
	for line := range strings.Lines(stdout) {
		var check struct {
			Check string
			Error string
			Done  *int
		}
		if err := json.Unmarshal([]byte(line), &check); err != nil {
			t.Logf("%s: %s", name, strings.TrimRight(line, "\n"))
			continue
		}
		if check.Done != nil {
			total = *check.Done
			continue
		}
		count++
		t.Run(check.Check, func(t *testing.T) {
			if check.Error != "" {
				t.Errorf("%s %q:\n%s", name, args, check.Error)
			}
		})
	}
	if total != count || count == 0 || code != 0 {
		t.Errorf("%s %q: saw %d checks of %d, exit code %d, stderr:\n%s", name, args, count, total, code, stderr)
	}
}

// process is a Python program that runs beside the test.  It is killed when the test ends, and ends by itself when this program does,
// since its scripts watch their standard input.
type process struct {
	args  []string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan string // of the standard output; closed at its end

	mu     sync.Mutex // protects output
	output bytes.Buffer
}

// start starts a script of testdata.
func start(t *testing.T, env []string, name string, args ...string) *process {
	t.Helper()
	p := &process{
		args:  append([]string{script(t, name)}, args...),
		lines: make(chan string, 4096), // so that a program that prints is not held up by a test that does not look
	}
	p.cmd = command(t, env, p.args...)
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	p.cmd.Stderr = p
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %q: %v", p.args, err)
	}
	go p.read(stdout)
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			p.mu.Lock()
			defer p.mu.Unlock()
			output := p.output.Bytes()
			t.Logf("end of the output of %q:\n%s", p.args, output[max(0, len(output)-4000):])
		}
	})
	return p
}

func (p *process) read(stdout io.Reader) {
	defer close(p.lines)
	scanner := bufio.NewScanner(stdout)
	for scanner.Scan() {
		p.Write(append(scanner.Bytes(), '\n'))
		p.lines <- scanner.Text()
	}
}

// Write keeps output for a test that fails.
func (p *process) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.Write(text)
}

// awaitEnd waits for a process that ends by itself.
func (p *process) awaitEnd(t *testing.T) {
	t.Helper()
	late := time.AfterFunc(patience, func() { p.cmd.Process.Kill() })
	for range p.lines { // until it has closed its output
	}
	if !late.Stop() {
		t.Errorf("%q did not end in %v", p.args, patience)
	}
}

// kill ends the process at once, as kill -9 does.  It can be called again.
func (p *process) kill() {
	p.cmd.Process.Kill()
	for range p.lines { // until the reader has ended; Wait must not come before
	}
	p.cmd.Wait()
}

// expect waits for a line that begins with prefix, and returns the rest of it.
func (p *process) expect(t *testing.T, prefix string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		select {
		case line, open := <-p.lines:
			if !open {
				t.Fatalf("%q ended without a line %q", p.args, prefix)
			}
			if rest, ok := strings.CutPrefix(line, prefix); ok {
				return strings.TrimSpace(rest)
			}
		case <-ctx.Done():
			t.Fatalf("%q: no line %q in %v", p.args, prefix, patience)
		}
	}
}
