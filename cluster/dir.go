package cluster

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// What a data directory holds.
const (
	identityFile = "node.json"
	lockFile     = "LOCK"
	logFile      = "raft.db"
	snapshotDir  = "snapshots" // made by raft.FileSnapshotStore

	identityFormat   = 1
	logKind          = "boltdb"
	maxIdentityBytes = 1 << 20
)

const startAnew = "move the directory away and let the node join anew with an empty one; remove its old id from the cluster"

func damaged(path, what string) error {
	return fmt.Errorf("%w: %s: %s: %s", ErrDamaged, path, what, startAnew)
}

// identity is the content of node.json: who this node is and which cluster it belongs to, or is about to.
type identity struct {
	Format     int    `json:"format"`
	ID         string `json:"id"`         // minted when the directory was made
	Log        string `json:"log"`        // kind of the log store
	LogCreated bool   `json:"logCreated"` // from now on a log that is not there is a damage

	Cluster string `json:"cluster,omitempty"` // id, once this node has applied it

	// Round counts the promises that this node has given up, so that a request for one of them that comes late is refused.
	Round   uint64   `json:"round,omitempty"`
	Promise *promise `json:"promise,omitempty"`

	Checksum string `json:"checksum"` // CRC-32C of this in compact form without the checksum
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (id identity) sum() (string, error) {
	id.Checksum = ""
	b, err := json.Marshal(id)
	return fmt.Sprintf("%08x", crc32.Checksum(b, castagnoli)), err
}

// directory is a data directory that this process has locked.
type directory struct {
	path string
	lock *os.File

	mu sync.Mutex // guards id; held while the file is written, since what it says must be durable before it is acted on
	id identity
}

// openDirectory makes the directory if it is not there, locks it, and reads or mints the node's identity.
func openDirectory(path string) (*directory, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("cluster: make data directory: %w", err)
	}
	d := &directory{path: path}
	if err := d.acquire(); err != nil {
		return nil, err
	}
	err := d.load()
	if errors.Is(err, fs.ErrNotExist) {
		err = d.mint()
	}
	if err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

func (d *directory) file(name string) string { return filepath.Join(d.path, name) }

// acquire locks the directory until close or the end of the process, however it ends.
func (d *directory) acquire() error {
	f, err := os.OpenFile(d.file(lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("cluster: data directory cannot be written: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return fmt.Errorf("%w: %s", ErrInUse, d.path)
		}
		return fmt.Errorf("cluster: lock %s: %w", d.file(lockFile), err)
	}
	d.lock = f
	return nil
}

// close unlocks the directory.  A child that was forked a moment ago, and has not run its program yet, still has the file open: closing alone
// would leave it locked.
func (d *directory) close() error {
	return errors.Join(syscall.Flock(int(d.lock.Fd()), syscall.LOCK_UN), d.lock.Close())
}

func (d *directory) load() error {
	path := d.file(identityFile)
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("cluster: open identity: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxIdentityBytes+1))
	if err != nil {
		return fmt.Errorf("cluster: read identity: %w", err)
	}
	id, err := parseIdentity(b)
	if err != nil {
		return damaged(path, err.Error())
	}
	d.id = id
	return nil
}

func parseIdentity(b []byte) (identity, error) {
	var id identity
	if len(b) > maxIdentityBytes {
		return id, fmt.Errorf("more than %d bytes", maxIdentityBytes)
	}
	if err := json.Unmarshal(b, &id); err != nil {
		return id, err
	}
	want, err := id.sum()
	switch {
	case err != nil:
		return id, err
	case id.Format != identityFormat:
		return id, fmt.Errorf("format %d, want %d", id.Format, identityFormat)
	case id.Checksum != want:
		return id, fmt.Errorf("checksum %q, want %q", id.Checksum, want)
	case id.ID == "" || len(id.ID) > maxString:
		return id, errors.New("no node id")
	case id.Log != logKind:
		return id, fmt.Errorf("log store %q, want %q", id.Log, logKind)
	}
	return id, nil
}

// mint makes the identity of a new node, but not beside data of an old one: a node that forgot who it is could vote twice.
func (d *directory) mint() error {
	for _, name := range []string{logFile, snapshotDir} {
		if _, err := os.Lstat(d.file(name)); !errors.Is(err, fs.ErrNotExist) {
			return damaged(d.file(identityFile), "missing, though there is "+name)
		}
	}
	return d.update(func(id *identity) error {
		*id = identity{Format: identityFormat, ID: "n-" + randomHex(4), Log: logKind}
		return nil
	})
}

func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// identity returns a copy; what Promise points to must not be changed.
func (d *directory) identity() identity {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.id
}

// update changes the identity and returns when the change is on disk.  If change returns an error, nothing changes.
func (d *directory) update(change func(*identity) error) error {
	return d.updateIf(func(id *identity) (bool, error) { return true, change(id) })
}

// updateIf is update that writes nothing if change returns false.
func (d *directory) updateIf(change func(*identity) (bool, error)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	id := d.id
	if changed, err := change(&id); err != nil || !changed {
		return err
	}
	sum, err := id.sum()
	if err != nil {
		return fmt.Errorf("cluster: encode identity: %w", err)
	}
	id.Checksum = sum
	b, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return fmt.Errorf("cluster: encode identity: %w", err)
	}
	if err := writeFile(d.file(identityFile), append(b, '\n')); err != nil {
		return fmt.Errorf("cluster: write identity: %w", err)
	}
	d.id = id
	return nil
}

// writeFile replaces a file so that after a crash it is the old one or the new one.
func writeFile(path string, b []byte) error {
	temp := path + ".tmp"
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.Write(b); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes the names in a directory durable.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
