package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	entrypoint = "/pyro-cluster"
	// user is a number, so that Kubernetes can tell that it is not root.  It has no name, as there is no /etc/passwd.
	user = "65532:65532"
)

// newImage returns an image that has the program and nothing else.
func newImage(o options, program []byte) (v1.Image, error) {
	files, err := layerTar(program, o.created)
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(files)), nil },
		tarball.WithMediaType(types.OCILayer), tarball.WithCompressionLevel(6))
	if err != nil {
		return nil, err
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.Append(base, mutate.Addendum{
		Layer:   layer,
		History: v1.History{Created: v1.Time{Time: o.created}, CreatedBy: "COPY pyro-cluster " + entrypoint},
	})
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", o.arch
	config.Created = v1.Time{Time: o.created}
	config.Config = v1.Config{
		Entrypoint: []string{entrypoint},
		User:       user,
		WorkingDir: "/",
		ExposedPorts: map[string]struct{}{
			"9090/tcp": {}, // clients
			"9091/udp": {}, // their broadcasts
			"9092/tcp": {}, // the other nodes
			"9093/tcp": {}, // probes and metrics
		},
		Labels: labels(o),
	}
	return mutate.ConfigFile(img, config)
}

func labels(o options) map[string]string {
	return map[string]string{
		"org.opencontainers.image.title":       "pyro-cluster",
		"org.opencontainers.image.description": "Highly available object broker, compatible with Pyro5",
		"org.opencontainers.image.source":      "https://github.com/pyro-cluster/pyro-cluster",
		"org.opencontainers.image.licenses":    "MIT",
		"org.opencontainers.image.version":     o.version,
		"org.opencontainers.image.created":     o.created.Format(time.RFC3339),
	}
}

// layerTar returns the file system, which root owns: the program cannot change itself.
func layerTar(program []byte, created time.Time) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := addFile(w, entrypoint[1:], 0o755, created, program)
	if err == nil {
		err = w.Close()
	}
	return b.Bytes(), err
}

func addFile(w *tar.Writer, path string, mode int64, modified time.Time, content []byte) error {
	header := tar.Header{Typeflag: tar.TypeReg, Name: path, Mode: mode, Size: int64(len(content)), ModTime: modified, Format: tar.FormatUSTAR}
	if err := w.WriteHeader(&header); err != nil {
		return err
	}
	_, err := w.Write(content)
	return err
}

// writeArchive writes the image as a tar of an OCI image layout with, beside it, the manifest.json that engines look for which are older than that
// format.
func writeArchive(w io.Writer, img v1.Image, tag name.Tag) error {
	index, docker, blobs, err := contents(img, tag)
	if err != nil {
		return err
	}
	files := append([]file{
		{"oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)},
		{"index.json", index},
		{"manifest.json", docker},
	}, blobs...)
	archive := tar.NewWriter(w)
	for _, f := range files {
		if err := addFile(archive, f.path, 0o644, time.Unix(0, 0), f.content); err != nil {
			return fmt.Errorf("%s: %w", f.path, err)
		}
	}
	return archive.Close()
}

type file struct {
	path    string
	content []byte
}

// contents returns both tables of contents and the blobs that they point to.
func contents(img v1.Image, tag name.Tag) (index, docker []byte, blobs []file, err error) {
	manifest, err := img.Manifest()
	if err != nil {
		return nil, nil, nil, err
	}
	rawManifest, err := img.RawManifest()
	if err != nil {
		return nil, nil, nil, err
	}
	rawConfig, err := img.RawConfigFile()
	if err != nil {
		return nil, nil, nil, err
	}
	digest, err := img.Digest()
	if err != nil {
		return nil, nil, nil, err
	}
	blobs = []file{{blobPath(digest), rawManifest}, {blobPath(manifest.Config.Digest), rawConfig}}
	var layers []string
	for _, l := range manifest.Layers {
		content, err := layerBlob(img, l.Digest)
		if err != nil {
			return nil, nil, nil, err
		}
		layers = append(layers, blobPath(l.Digest))
		blobs = append(blobs, file{blobPath(l.Digest), content})
	}
	if index, err = indexJSON(img, v1.Descriptor{MediaType: types.OCIManifestSchema1, Digest: digest, Size: int64(len(rawManifest))}, tag); err != nil {
		return nil, nil, nil, err
	}
	docker, err = json.Marshal(tarball.Manifest{{Config: blobPath(manifest.Config.Digest), RepoTags: []string{fullName(tag)}, Layers: layers}})
	return index, docker, blobs, err
}

func indexJSON(img v1.Image, d v1.Descriptor, tag name.Tag) ([]byte, error) {
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	d.Platform = config.Platform()
	d.Annotations = map[string]string{
		"io.containerd.image.name":          fullName(tag), // containerd and podman
		"org.opencontainers.image.ref.name": tag.TagStr(),  // skopeo
	}
	return json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{d}})
}

// fullName is the name as engines spell it.
func fullName(tag name.Tag) string {
	if tag.RegistryStr() == name.DefaultRegistry {
		return "docker.io/" + tag.RepositoryStr() + ":" + tag.TagStr()
	}
	return tag.Name()
}

func blobPath(h v1.Hash) string { return "blobs/" + h.Algorithm + "/" + h.Hex }

func layerBlob(img v1.Image, digest v1.Hash) ([]byte, error) {
	layer, err := img.LayerByDigest(digest)
	if err != nil {
		return nil, err
	}
	r, err := layer.Compressed()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}
