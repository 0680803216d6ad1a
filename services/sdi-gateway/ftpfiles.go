package sdigateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pkg/sftp"

	"ceralacca.dev/services/format/sdiftp"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/sdi-gateway/internal/db"
)

// ftpFiles is the view that SdI's client has: two directories over rows and blobs. From one it may get and
// delete, into the other put and rename; everything else is denied. Nothing is seen before it is whole, and no
// operation is answered before what it means is committed.
// spec: SDIFTP-4.3 §5.1
type ftpFiles struct {
	f   *ftpChannel
	ctx context.Context //nolint:containedctx // of the session: the handlers of the library take none
}

func directories(test bool) (towards, from string) {
	if test {
		return sdiftp.DirTowardsTest, sdiftp.DirFromTest
	}
	return sdiftp.DirTowards, sdiftp.DirFrom
}

// locate splits a path of the client. dir is empty for the root.
func locate(p string) (dir, name string) {
	p = path.Clean("/" + p)
	dir, name = path.Split(p[1:])
	dir = strings.TrimSuffix(dir, "/")
	if dir == "" {
		return name, ""
	}
	return dir, name
}

func (v *ftpFiles) deny(r *sftp.Request, why string) error {
	v.f.s.log.WarnContext(v.ctx, "an SFTP request was denied", "method", r.Method, "path", clipText(r.Filepath, 200), "target", clipText(r.Target, 200), "why", why)
	return sftp.ErrSSHFxPermissionDenied
}

func clipText(s string, n int) string { return s[:min(len(s), n)] }

// failed answers a request that could not be carried out, and says why here: the client gets no reasons.
func (v *ftpFiles) failed(r *sftp.Request, err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return sftp.ErrSSHFxNoSuchFile
	}
	v.f.s.log.ErrorContext(v.ctx, "an SFTP request failed", "method", r.Method, "path", r.Filepath, "error", err)
	return sftp.ErrSSHFxFailure
}

func (v *ftpFiles) system(fn func(ctx context.Context, q *db.Queries) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(v.ctx), saveTimeout)
	defer cancel()
	return v.f.s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error { return fn(ctx, db.New(tx)) })
}

// Fileread lets SdI read a support. That it was opened is committed first: from then on SdI may have it.
func (v *ftpFiles) Fileread(r *sftp.Request) (io.ReaderAt, error) {
	dir, name := locate(r.Filepath)
	if dir != v.f.towards || name == "" {
		return nil, v.deny(r, "only supports towards SdI can be read")
	}
	var uri string
	err := v.system(func(ctx context.Context, q *db.Queries) (err error) {
		now := pg.Time(v.f.s.now())
		uri, err = q.OpenSupport(ctx, db.OpenSupportParams{Name: name, Now: &now})
		return err
	})
	if err != nil {
		return nil, v.failed(r, err)
	}
	ref, err := blob.ParseURI(uri)
	if err == nil {
		var content []byte
		content, err = v.f.s.blobs.Get(v.ctx, ref)
		if err == nil {
			return bytes.NewReader(content), nil
		}
	}
	return nil, v.failed(r, err)
}

// Filewrite takes a file of SdI. It becomes known when it is closed, and only if the connection still stands.
func (v *ftpFiles) Filewrite(r *sftp.Request) (io.WriterAt, error) {
	dir, name := locate(r.Filepath)
	if dir == v.f.towards && name == sdiftp.Probe {
		return &upload{limit: 4096, discard: true}, nil
	}
	if dir != v.f.from || name == "" {
		return nil, v.deny(r, "files are put into "+v.f.from)
	}
	n, err := sdiftp.ParseName(name)
	if err != nil || n.Kind == sdiftp.FI || n.Node != v.f.s.cfg.FTP.Node {
		return nil, v.deny(r, "not the name of a file from SdI to this node")
	}
	if r.Pflags().Append {
		return nil, v.deny(r, "a file is put as a whole")
	}
	file, err := os.CreateTemp("", "sdiftp-*")
	if err != nil {
		return nil, v.failed(r, err)
	}
	return &upload{v: v, r: r, name: n, file: file, limit: sdiftp.MaxSupport}, nil
}

// upload is a file on its way in: in a temporary file until it is closed.
type upload struct {
	v       *ftpFiles
	r       *sftp.Request
	name    sdiftp.Name
	limit   int64
	discard bool

	mu   sync.Mutex
	file *os.File
	cut  error
}

// WriteAt takes a piece. A file beyond the limit fails here, and then as a whole.
func (u *upload) WriteAt(b []byte, off int64) (int, error) {
	if off < 0 || off > u.limit-int64(len(b)) {
		u.TransferError(sdiftp.ErrTooLarge)
		return 0, fmt.Errorf("%w: at most %d bytes", sdiftp.ErrTooLarge, u.limit)
	}
	if u.discard {
		return len(b), nil
	}
	return u.file.WriteAt(b, off)
}

// TransferError hears of a connection that broke before the file was closed.
func (u *upload) TransferError(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.cut = err
}

// Close makes the file known, once its bytes are durable. One that was cut off leaves nothing.
func (u *upload) Close() error {
	if u.discard {
		return nil
	}
	defer func() {
		_ = u.file.Close()
		_ = os.Remove(u.file.Name())
	}()
	u.mu.Lock()
	cut := u.cut
	u.mu.Unlock()
	s := u.v.f.s
	if cut != nil {
		s.log.WarnContext(u.v.ctx, "a file of SdI was cut off on its way and is not kept; SdI will put it again", "name", u.name.String(), "error", cut)
		return sftp.ErrSSHFxFailure
	}
	_, err := u.file.Seek(0, io.SeekStart)
	if err != nil {
		return u.v.failed(u.r, err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(u.v.ctx), 2*time.Minute)
	defer cancel()
	ref, err := s.blobs.PutReader(ctx, supportTenant, u.file)
	if err != nil {
		return u.v.failed(u.r, err)
	}
	if u.name.Complete {
		err = s.saveReceived(ctx, u.name, ref)
	} else {
		err = s.saveArriving(ctx, u.name, ref)
	}
	if err != nil {
		return u.v.failed(u.r, err)
	}
	return nil
}

// Filecmd renames what was put (which certifies that it is whole) and removes what was taken (which certifies
// that SdI has it).
func (v *ftpFiles) Filecmd(r *sftp.Request) error {
	dir, name := locate(r.Filepath)
	switch r.Method {
	case "Setstat":
		return nil // clients set times and modes; there are none here
	case "Remove":
		if dir == v.f.towards && name == sdiftp.Probe {
			return nil
		}
		if dir != v.f.towards || name == "" {
			return v.deny(r, "only supports towards SdI can be removed")
		}
		return v.remove(r, name)
	case "Rename", "PosixRename":
		toDir, toName := locate(r.Target)
		if dir != v.f.from || toDir != v.f.from {
			return v.deny(r, "only files from SdI can be renamed")
		}
		from, err := sdiftp.ParseName(name)
		to, toErr := sdiftp.ParseName(toName)
		if err != nil || toErr != nil || !to.Complete || from.Stem() != to.Stem() {
			return v.deny(r, "a file is renamed to the same name with the mark of a whole file")
		}
		err = v.f.s.completeArriving(context.WithoutCancel(v.ctx), from, to)
		if err != nil {
			return v.failed(r, err)
		}
		return nil
	}
	return v.deny(r, "not served")
}

// PosixRename is Rename: what is renamed over is never lost, since every content is kept.
func (v *ftpFiles) PosixRename(r *sftp.Request) error { return v.Filecmd(r) }

func (v *ftpFiles) remove(r *sftp.Request, name string) error {
	err := v.system(func(ctx context.Context, q *db.Queries) error {
		now := pg.Time(v.f.s.now())
		_, err := q.TakeSupport(ctx, db.TakeSupportParams{Name: name, Now: &now})
		return err
	})
	if err != nil {
		return v.failed(r, err)
	}
	v.f.s.log.InfoContext(v.ctx, "SdI has taken a support", "name", name)
	return nil
}

// Filelist lists a directory or tells of one file.
func (v *ftpFiles) Filelist(r *sftp.Request) (sftp.ListerAt, error) {
	dir, name := locate(r.Filepath)
	if r.Method == "List" {
		if name != "" {
			return nil, sftp.ErrSSHFxNoSuchFile
		}
		return v.list(r, dir)
	}
	switch {
	case r.Method != "Stat" && r.Method != "Lstat":
		return nil, v.deny(r, "not served")
	case dir == "" || name == "" && (dir == v.f.towards || dir == v.f.from):
		return listing{entry{name: path.Base("/" + dir), dir: true}}, nil
	case name == "":
		return nil, sftp.ErrSSHFxNoSuchFile
	case dir == v.f.from:
		return v.stat(r, name)
	}
	all, err := v.list(r, dir)
	if err != nil {
		return nil, err
	}
	for _, e := range all {
		if e.Name() == name {
			return listing{e}, nil
		}
	}
	return nil, sftp.ErrSSHFxNoSuchFile
}

func (v *ftpFiles) list(r *sftp.Request, dir string) (out listing, err error) {
	switch dir {
	case "":
		return listing{entry{name: v.f.from, dir: true}, entry{name: v.f.towards, dir: true}}, nil
	case v.f.towards:
		err = v.system(func(ctx context.Context, q *db.Queries) error {
			rows, err := q.ShownSupports(ctx)
			for _, row := range rows {
				out = append(out, entry{name: row.Name, size: row.Size, at: *row.ShownAt})
			}
			return err
		})
	case v.f.from:
		err = v.system(func(ctx context.Context, q *db.Queries) error {
			rows, err := q.ArrivedFiles(ctx)
			for _, row := range rows {
				out = append(out, entry{name: row.Name, size: row.Size, at: row.CreatedAt})
			}
			return err
		})
	default:
		return nil, sftp.ErrSSHFxNoSuchFile
	}
	if err != nil {
		return nil, v.failed(r, err)
	}
	return out, nil
}

// stat tells of a file that SdI put, also when it was read long ago: clients compare sizes after a put.
func (v *ftpFiles) stat(r *sftp.Request, name string) (sftp.ListerAt, error) {
	var e entry
	err := v.system(func(ctx context.Context, q *db.Queries) error {
		row, err := q.StatReceived(ctx, name)
		e = entry{name: name, size: row.Size, at: row.CreatedAt}
		return err
	})
	if err != nil {
		return nil, v.failed(r, err)
	}
	return listing{e}, nil
}

// listing is a directory as the library wants it.
type listing []fs.FileInfo

// ListAt copies entries from the given one on.
func (l listing) ListAt(into []os.FileInfo, from int64) (int, error) {
	if from >= int64(len(l)) {
		return 0, io.EOF
	}
	n := copy(into, l[from:])
	if n < len(into) {
		return n, io.EOF
	}
	return n, nil
}

// entry is one line of a listing.
type entry struct {
	name string
	size int64
	at   time.Time
	dir  bool
}

func (e entry) Name() string       { return e.name }
func (e entry) Size() int64        { return e.size }
func (e entry) ModTime() time.Time { return e.at }
func (e entry) IsDir() bool        { return e.dir }
func (e entry) Sys() any           { return nil }

func (e entry) Mode() fs.FileMode {
	if e.dir {
		return fs.ModeDir | 0o700
	}
	return 0o600
}
