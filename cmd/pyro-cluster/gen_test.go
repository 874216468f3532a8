package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestGen makes files from an interface.
func TestGen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "go.mod"), "module example.com/lamp\n\ngo 1.26\n")
	writeFile(t, filepath.Join(dir, "lamp.go"), "package lamp\n\n// Lamp shines.\ntype Lamp interface {\n\tSwitchOn() error\n}\n")
	r := cli(t, "gen", "--type", "Lamp", "--pyi", filepath.Join(dir, "lamp.pyi"), dir)
	if r.code != exitOK || r.stdout != "" || r.stderr != "" {
		t.Fatalf("got exit %d, %q, %q, want silence", r.code, r.stdout, r.stderr)
	}
	for name, want := range map[string]string{
		"lamp_pyro.go": "func NewLampProxy(invoker core.Invoker) *LampProxy {",
		"lamp.pyi":     "class Lamp(Protocol):\n    \"\"\"Lamp shines.\"\"\"\n\n    def switch_on(self) -> None: ...\n",
	} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s: got %q, %v, want it to have %q", name, text, err, want)
		}
	}
}
