package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func noEnv(string) string { return "" }

// entries returns the files of a tar with their headers.
func entries(t *testing.T, r io.Reader) (map[string][]byte, map[string]*tar.Header) {
	t.Helper()
	files, headers := map[string][]byte{}, map[string]*tar.Header{}
	for archive := tar.NewReader(r); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files, headers
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[h.Name], err = io.ReadAll(archive); err != nil {
			t.Fatal(err)
		}
		headers[h.Name] = h
	}
}

func decode[T any](t *testing.T, text []byte) (v T) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

// blob returns what a descriptor points to, after a look at its size and digest.
func blob(t *testing.T, files map[string][]byte, d v1.Descriptor) []byte {
	t.Helper()
	content := files["blobs/sha256/"+d.Digest.Hex]
	if sum := sha256.Sum256(content); hex.EncodeToString(sum[:]) != d.Digest.Hex || int64(len(content)) != d.Size {
		t.Fatalf("%s: got %d bytes with the digest %x, want %d", d.Digest, len(content), sum, d.Size)
	}
	return content
}

// unpacked is an image as an engine sees it.
type unpacked struct {
	index    v1.IndexManifest
	manifest v1.Manifest
	config   v1.ConfigFile
	docker   tarball.Manifest
	files    map[string][]byte
	headers  map[string]*tar.Header
}

func unpack(t *testing.T, archive []byte) (u unpacked) {
	t.Helper()
	files, _ := entries(t, bytes.NewReader(archive))
	if got := string(files["oci-layout"]); got != `{"imageLayoutVersion":"1.0.0"}` {
		t.Fatalf("oci-layout: got %q", got)
	}
	u.index = decode[v1.IndexManifest](t, files["index.json"])
	if len(u.index.Manifests) != 1 {
		t.Fatalf("index.json: got %+v, want one image", u.index)
	}
	u.manifest = decode[v1.Manifest](t, blob(t, files, u.index.Manifests[0]))
	u.config = decode[v1.ConfigFile](t, blob(t, files, u.manifest.Config))
	u.docker = decode[tarball.Manifest](t, files["manifest.json"])
	if len(u.manifest.Layers) != 1 {
		t.Fatalf("got the layers %+v, want one", u.manifest.Layers)
	}
	layer, err := gzip.NewReader(bytes.NewReader(blob(t, files, u.manifest.Layers[0])))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(layer)
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(plain); len(u.config.RootFS.DiffIDs) != 1 || u.config.RootFS.DiffIDs[0].Hex != hex.EncodeToString(sum[:]) {
		t.Errorf("diff ids: got %v, want that of the layer, %x", u.config.RootFS.DiffIDs, sum)
	}
	u.files, u.headers = entries(t, bytes.NewReader(plain))
	return u
}

// TestImage makes the image as "make image" does, twice, and runs what is in it.
//
// spec: T4
func TestImage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	make := func(file string) []byte {
		var out bytes.Buffer
		path := filepath.Join(dir, file)
		args := []string{"-o", path, "-name", "registry.example.org:5000/pyro-cluster:v1.2.3", "-version", "v1.2.3-test"}
		if err := run(t.Context(), args, func(string) string { return "1700000000" }, &out, io.Discard); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), " registry.example.org:5000/pyro-cluster:v1.2.3 linux/amd64 sha256:") {
			t.Errorf("printed %q", &out)
		}
		archive, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return archive
	}
	archive := make("1.tar")
	if again := make("2.tar"); !bytes.Equal(archive, again) {
		t.Error("the same input made two images")
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 || err != nil {
		t.Errorf("left over: %v, %v", left, err)
	}

	u := unpack(t, archive)
	if got := slices.Collect(maps.Keys(u.files)); !slices.Equal(got, []string{"pyro-cluster"}) {
		t.Fatalf("files: got %v, want the program alone", got)
	}
	if h := u.headers["pyro-cluster"]; h.Mode != 0o755 || h.Uid != 0 || h.Gid != 0 || h.ModTime.Unix() != 1700000000 {
		t.Errorf("file: got mode %o, owner %d:%d, time %v", h.Mode, h.Uid, h.Gid, h.ModTime)
	}
	program := filepath.Join(dir, "pyro-cluster")
	if err := os.WriteFile(program, u.files["pyro-cluster"], 0o700); err != nil {
		t.Fatal(err)
	}
	checkStatic(t, program)
	cmd := exec.CommandContext(t.Context(), program, "version")
	cmd.Env = []string{} // as in an empty image
	if out, err := cmd.CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "pyro-cluster v1.2.3-test ") {
		t.Errorf("version: got %q, %v", out, err)
	}
}

// checkStatic: an image without libraries takes a program that needs none.
func checkStatic(t *testing.T, program string) {
	t.Helper()
	f, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("the program wants a dynamic linker")
		}
	}
	if f.Machine != elf.EM_X86_64 {
		t.Errorf("machine: got %v, want %v", f.Machine, elf.EM_X86_64)
	}
}

// archiveOf makes an archive with any bytes for a program.
func archiveOf(t *testing.T, o options) []byte {
	t.Helper()
	img, err := newImage(o, []byte("program"))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := writeArchive(&b, img, o.tag); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestNames(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ name, tag, full, short string }{
		{"of this machine", "localhost/pyro-cluster:devel", "localhost/pyro-cluster:devel", "devel"},
		{"of a registry", "registry.example.org:5000/a/b:v1", "registry.example.org:5000/a/b:v1", "v1"},
		{"of Docker's, by a user", "somebody/pyro-cluster:v1", "docker.io/somebody/pyro-cluster:v1", "v1"},
		{"of Docker's", "pyro-cluster:v1", "docker.io/library/pyro-cluster:v1", "v1"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			opts, err := parseOptions([]string{"-o", "x", "-name", row.tag, "-arch", "arm64"}, noEnv, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			u := unpack(t, archiveOf(t, opts))
			d := u.index.Manifests[0]
			if d.Annotations["io.containerd.image.name"] != row.full || d.Annotations["org.opencontainers.image.ref.name"] != row.short {
				t.Errorf("%s: index names it %v, want %s and %s", row.tag, d.Annotations, row.full, row.short)
			}
			if len(u.docker) != 1 || !slices.Equal(u.docker[0].RepoTags, []string{row.full}) {
				t.Errorf("%s: manifest.json names it %+v, want %s", row.tag, u.docker, row.full)
			}
			if want := "blobs/sha256/" + u.manifest.Layers[0].Digest.Hex; !slices.Equal(u.docker[0].Layers, []string{want}) ||
				u.docker[0].Config != "blobs/sha256/"+u.manifest.Config.Digest.Hex {
				t.Errorf("manifest.json has the layers %v and the configuration %s, want those of the manifest", u.docker[0].Layers, u.docker[0].Config)
			}
			if p := u.config.Platform(); p.OS != "linux" || p.Architecture != "arm64" || !d.Platform.Equals(*p) {
				t.Errorf("platform: got %v in the configuration, %v in the index; want linux/arm64", p, d.Platform)
			}
		})
	}
}

// TestContainerfile: an image made with an engine is the same.
func TestContainerfile(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../Containerfile")
	if err != nil {
		t.Fatal(err)
	}
	module, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag("localhost/pyro-cluster:devel")
	if err != nil {
		t.Fatal(err)
	}
	config := unpack(t, archiveOf(t, options{tag: tag, arch: "amd64", version: "${VERSION}"})).config.Config
	entry, _ := json.Marshal(config.Entrypoint)
	lines := []string{
		"ENTRYPOINT " + string(entry),
		"USER " + config.User,
		"WORKDIR " + config.WorkingDir,
		"EXPOSE " + strings.Join(slices.Sorted(maps.Keys(config.ExposedPorts)), " "),
		"ARG GO_VERSION=" + regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(string(module))[1],
	}
	for key, value := range config.Labels {
		if key != "org.opencontainers.image.created" && key != "org.opencontainers.image.description" { // the engine's business, and that of this one
			lines = append(lines, key+`="`+value+`"`)
		}
	}
	for _, line := range lines {
		if !strings.Contains(string(text), line) {
			t.Errorf("Containerfile has no %q", line)
		}
	}
}

func TestBadInput(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, want string
		args       []string
		epoch      string
	}{
		{"no file", "no -o: name the file to write", nil, ""},
		{"argument", `got the argument "more", want flags alone`, []string{"-o", "x", "more"}, ""},
		{"flag", "flag provided but not defined: -platform", []string{"-platform", "x"}, ""},
		{"processor", `-arch is "sparc": give one of amd64, arm64, `, []string{"-o", "x", "-arch", "sparc"}, ""},
		{"name with capitals", `-name is "Pyro:v1": give name:tag, such as `, []string{"-o", "x", "-name", "Pyro:v1"}, ""},
		{"name without a tag", `-name is "localhost/pyro": give name:tag, such as `, []string{"-o", "x", "-name", "localhost/pyro"}, ""},
		{"name with a port and no tag", `-name is "localhost:5000/pyro": give name:tag, such as `, []string{"-o", "x", "-name", "localhost:5000/pyro"}, ""},
		{"empty name", `-name is "": give name:tag, such as `, []string{"-o", "x", "-name", ""}, ""},
		{"tag with a space", `-name is "pyro:v 1": give name:tag, such as `, []string{"-o", "x", "-name", "pyro:v 1"}, ""},
		{"version", `-version is "v1 -X main.other=1": give one word, such as v1.2.3`, []string{"-o", "x", "-version", "v1 -X main.other=1"}, ""},
		{"time", `SOURCE_DATE_EPOCH is "today": give seconds since 1970, or nothing`, []string{"-o", "x"}, "today"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			var stderr bytes.Buffer
			err := run(t.Context(), row.args, func(string) string { return row.epoch }, io.Discard, &stderr)
			if !errors.Is(err, errUsage) || !strings.HasPrefix(err.Error(), "wrong usage: "+row.want) || strings.Contains(err.Error(), "\n") || stderr.Len() > 0 {
				t.Errorf("%v: got %v, stderr %q; want %q in one line", row.args, err, &stderr, row.want)
			}
		})
	}
}

func TestWriteFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "image.tar")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	full := errors.New("disk full")
	err := writeFile(path, func(w io.Writer) error {
		_, err := w.Write([]byte("half"))
		return errors.Join(err, full)
	})
	if got, _ := os.ReadFile(path); !errors.Is(err, full) || string(got) != "old" {
		t.Errorf("failed write: got %v and the file %q, want the old one", err, got)
	}
	missing := filepath.Join(dir, "missing", "image.tar")
	if err := writeFile(missing, nil); err == nil || err.Error() != "write "+missing+": no such file or directory" {
		t.Errorf("no folder: got %v", err)
	}
	if left, err := os.ReadDir(dir); len(left) != 1 || err != nil {
		t.Errorf("left over: %v, %v", left, err)
	}
}

func TestBuildStops(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := build(ctx, options{arch: "amd64", version: "v1"}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}
