package witness

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"ceralacca.dev/services/format/tlog"
)

// Files of a folder:
//
//	name              the witness's name, a line
//	key.pem           its Ed25519 key, PKCS#8, mode 0600
//	lock              held by whoever has the folder open
//	logs/<id>/keys    verifier keys of a log, a line each; <id> is the SHA-256 of the origin
//	logs/<id>/last    the last checkpoint that was cosigned; empty: none yet
//	logs/<id>/refused requests that contradict it
const (
	nameFile = "name"
	keyFile  = "key.pem"
	lockFile = "lock"
	logsDir  = "logs"
	keysFile = "keys"
	lastFile = "last"
	refused  = "refused"
)

// mostRefused bounds what is kept of a log that goes on contradicting itself: one is proof enough.
const mostRefused = 100

// ErrState: the state of a log is not what this witness wrote. It is never begun anew.
var ErrState = errors.New("witness: the state of the log is gone or damaged: make a new witness with another name, and tell the log's operator")

// Create makes the folder of a new witness and gives its verifier key. Errors: a folder that has a witness
// already; a name that notes do not admit.
func Create(dir, name string) (string, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", fmt.Errorf("witness: make key: %w", err)
	}
	signer, err := tlog.NewCosigner(name, key, time.Now)
	if err != nil {
		return "", err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", fmt.Errorf("witness: make key: %w", err)
	}
	err = os.MkdirAll(filepath.Join(dir, logsDir), 0o700)
	if err != nil {
		return "", fmt.Errorf("witness: %w", err)
	}
	_, err = os.Stat(filepath.Join(dir, keyFile))
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("witness: %s has the key of a witness already", dir)
	}
	err = replace(filepath.Join(dir, nameFile), []byte(name+"\n"))
	if err == nil {
		err = replace(filepath.Join(dir, keyFile), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	}
	if err != nil {
		return "", err
	}
	return signer.String(), nil
}

// Folder is an open witness.
type Folder struct {
	dir    string
	signer *tlog.Signer
	now    func() time.Time
	unlock func() error

	mu   sync.Mutex // from the judgement to the disk
	logs map[string]*watched
}

// watched is one log.
type watched struct {
	dir    string
	origin string
	keys   []*tlog.Verifier
	tree   tlog.Tree
	note   []byte // the last checkpoint with our cosignature; nil: none yet
}

// Log is what the witness knows of a log.
type Log struct {
	Origin     string
	Size       int64
	Checkpoint []byte // nil: none was cosigned yet
}

// Open opens the folder of a witness, alone. Errors: no witness there, another process that has it, ErrState.
func Open(dir string, now func() time.Time) (*Folder, error) {
	_, err := os.Stat(filepath.Join(dir, nameFile)) // no lock is left in a folder of something else
	if err != nil {
		return nil, fmt.Errorf("witness: %s is no witness's folder; init makes one: %w", dir, err)
	}
	unlock, err := lock(filepath.Join(dir, lockFile))
	if err != nil {
		return nil, fmt.Errorf("witness: %s is in use by another process, or this user may not write there: %w", dir, err)
	}
	f := &Folder{dir: dir, now: now, unlock: unlock, logs: map[string]*watched{}}
	err = f.read()
	if err != nil {
		_ = unlock()
		return nil, err
	}
	return f, nil
}

// Close lets others open the folder.
func (f *Folder) Close() error { return f.unlock() }

func (f *Folder) read() error {
	name, err := os.ReadFile(filepath.Join(f.dir, nameFile))
	if err != nil {
		return fmt.Errorf("witness: %s is no witness's folder; init makes one: %w", f.dir, err)
	}
	raw, err := os.ReadFile(filepath.Join(f.dir, keyFile))
	if err != nil {
		return fmt.Errorf("witness: key: %w", err)
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		return fmt.Errorf("witness: %s holds no PEM block", keyFile)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, ok := parsed.(ed25519.PrivateKey)
	if err != nil || !ok {
		return fmt.Errorf("witness: %s holds no Ed25519 key: %w", keyFile, err)
	}
	f.signer, err = tlog.NewCosigner(strings.TrimSpace(string(name)), key, f.now)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(filepath.Join(f.dir, logsDir))
	if err != nil {
		return fmt.Errorf("witness: %w", err)
	}
	for _, e := range entries {
		l, err := f.readLog(filepath.Join(f.dir, logsDir, e.Name()))
		if err != nil {
			return err
		}
		f.logs[l.origin] = l
	}
	return nil
}

func (f *Folder) readLog(dir string) (*watched, error) {
	l := &watched{dir: dir, tree: tlog.EmptyTree()}
	raw, err := os.ReadFile(filepath.Join(dir, keysFile))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrState, err)
	}
	for line := range strings.Lines(string(raw)) {
		v, err := tlog.ParseVerifier(strings.TrimSpace(line))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrState, err)
		}
		l.keys, l.origin = append(l.keys, v), v.Name()
	}
	last, err := os.ReadFile(filepath.Join(dir, lastFile))
	if err != nil || filepath.Base(dir) != logID(l.origin) {
		return nil, fmt.Errorf("%w: %s: %w", ErrState, dir, err)
	}
	if len(last) == 0 {
		return l, nil
	}
	// Our own cosignature says that nobody else wrote it.
	signed, err := tlog.OpenCheckpoint(last, tlog.Policy{Origin: l.origin, LogKeys: l.keys, Witnesses: []*tlog.Verifier{&f.signer.Verifier}, Quorum: 1})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrState, err)
	}
	l.tree, l.note = signed.Tree, last
	return l, nil
}

func logID(origin string) string {
	sum := sha256.Sum256([]byte(origin))
	return hex.EncodeToString(sum[:])
}

// Key is the verifier key, to be told to the log and to everybody who relies on the witness.
func (f *Folder) Key() string { return f.signer.String() }

// Trust begins to watch the log of a verifier key, or takes a further key of a log that is watched. The
// name of the key must be the log's origin.
func (f *Folder) Trust(vkey string) error {
	v, err := tlog.ParseVerifier(vkey)
	if err != nil {
		return err
	}
	if v.Cosigner() {
		return fmt.Errorf("witness: %s is the key of a witness, not of a log", v.Name())
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	l, known := f.logs[v.Name()]
	if !known {
		l = &watched{dir: filepath.Join(f.dir, logsDir, logID(v.Name())), origin: v.Name(), tree: tlog.EmptyTree()}
		// The state comes first and its folder in one rename: a log with keys and without state would be ErrState.
		err = begin(l.dir, v.String())
		if err != nil {
			return err
		}
		l.keys = append(l.keys, v)
		f.logs[v.Name()] = l
		return nil
	}
	if slices.ContainsFunc(l.keys, func(k *tlog.Verifier) bool { return k.String() == v.String() }) {
		return nil
	}
	lines := make([]string, 0, len(l.keys)+1)
	for _, k := range append(slices.Clone(l.keys), v) {
		lines = append(lines, k.String())
	}
	err = replace(filepath.Join(l.dir, keysFile), []byte(strings.Join(lines, "\n")+"\n"))
	if err == nil {
		l.keys = append(l.keys, v)
	}
	return err
}

// begin makes the folder of a log.
func begin(dir, vkey string) error {
	next := dir + ".new"
	err := os.RemoveAll(next)
	if err == nil {
		err = os.Mkdir(next, 0o700)
	}
	if err != nil {
		return fmt.Errorf("witness: %w", err)
	}
	err = replace(filepath.Join(next, lastFile), nil)
	if err == nil {
		err = replace(filepath.Join(next, keysFile), []byte(vkey+"\n"))
	}
	if err != nil {
		return err
	}
	err = os.Rename(next, dir)
	if err != nil {
		return fmt.Errorf("witness: %w", err)
	}
	return syncDir(filepath.Dir(dir))
}

// Logs are the logs that are watched, by origin.
func (f *Folder) Logs() (list []Log) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range f.logs {
		list = append(list, Log{l.origin, l.tree.Size, slices.Clone(l.note)})
	}
	slices.SortFunc(list, func(a, b Log) int { return strings.Compare(a.Origin, b.Origin) })
	return list
}

// Add answers one request: the cosignature line. Errors: *tlog.WitnessError; of the disk, after which
// nothing was signed.
func (f *Folder) Add(raw []byte) ([]byte, error) {
	r, err := tlog.ParseRequest(raw)
	if err != nil {
		return nil, &tlog.WitnessError{Status: 400, Reason: err.Error()}
	}
	origin, _, _ := strings.Cut(string(r.Checkpoint), "\n")
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.logs[origin]
	if l == nil {
		return nil, &tlog.WitnessError{Status: 404, Reason: fmt.Sprintf("log %.80q is not known here", origin)}
	}
	w := tlog.Witness{Origin: l.origin, LogKeys: l.keys, Key: f.signer}
	line, next, err := w.Judge(l.tree, raw)
	if err != nil {
		var no *tlog.WitnessError
		if errors.As(err, &no) && no.Status == 422 {
			err = errors.Join(err, l.keep(raw))
		}
		return nil, err
	}
	if next == l.tree && l.note != nil {
		return line, nil
	}
	note, err := tlog.AddSignatures(r.Checkpoint, line)
	if err != nil {
		return nil, err
	}
	err = replace(filepath.Join(l.dir, lastFile), note)
	if err != nil {
		return nil, err
	}
	l.tree, l.note = next, note
	return line, nil
}

// keep keeps a request that contradicts the state: with the last checkpoint it is the evidence of a fork.
func (l *watched) keep(raw []byte) error {
	dir := filepath.Join(l.dir, refused)
	err := os.MkdirAll(dir, 0o700)
	if err != nil {
		return fmt.Errorf("witness: keep evidence: %w", err)
	}
	held, err := os.ReadDir(dir)
	if err != nil || len(held) >= mostRefused {
		return err
	}
	sum := sha256.Sum256(raw)
	return replace(filepath.Join(dir, hex.EncodeToString(sum[:8])), raw)
}

// replace writes a file so that after a power cut the old or the new one is there, whole.
func replace(path string, content []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return fmt.Errorf("witness: write: %w", err)
	}
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	err = errors.Join(err, file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("witness: write %s: %w", path, errors.Join(err, remove(file.Name())))
	}
	return nil
}

func remove(path string) error {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
