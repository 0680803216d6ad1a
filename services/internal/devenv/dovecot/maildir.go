package dovecot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Delivery says how a message gets into a mailbox.
type Delivery struct {
	Folder string // as in the file system: "" is INBOX, others like "Posta inviata" or "Sent.2026"
	Flags  string // letters of Maildir, such as "S" for read
	Size   int64  // that the server is made to believe; zero: the true one
}

func (s *Server) folder(name, folder string) string {
	dir := filepath.Join(s.home(name), "Maildir")
	if folder != "" {
		dir = filepath.Join(dir, "."+folder)
	}
	return dir
}

func (s *Server) makeFolder(dir string) error {
	for _, sub := range []string{"cur", "new", "tmp"} {
		err := os.MkdirAll(filepath.Join(dir, sub), 0o700)
		if err != nil {
			return fmt.Errorf("devenv/dovecot: %w", err)
		}
	}
	return nil
}

// Deliver puts a message into a mailbox as a delivery agent does: lines end with LF in the file and with CRLF when
// they are fetched.
func (s *Server) Deliver(name string, raw []byte, d Delivery) error {
	dir := s.folder(name, d.Folder)
	if _, err := os.Stat(dir); err != nil {
		err = s.makeFolder(dir)
		if err == nil {
			err = s.give(dir)
		}
		if err != nil {
			return err
		}
	}
	s.mu.Lock()
	s.count++
	n := s.count
	s.mu.Unlock()
	lf := bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n"))
	stored, travels := int64(len(lf)), int64(len(lf)+bytes.Count(lf, []byte("\n")))
	if d.Size > 0 {
		stored, travels = d.Size, d.Size
	}
	file := fmt.Sprintf("%d.M%dP1.test,S=%d,W=%d", time.Now().Unix(), n, stored, travels)
	tmp, final := filepath.Join(dir, "tmp", file), filepath.Join(dir, "new", file)
	if d.Flags != "" {
		final = filepath.Join(dir, "cur", file+":2,"+d.Flags)
	}
	err := os.WriteFile(tmp, lf, 0o600)
	if err == nil && s.account != nil {
		err = os.Chown(tmp, int(s.account.UID), int(s.account.GID))
	}
	if err == nil {
		err = os.Rename(tmp, final)
	}
	if err != nil {
		return fmt.Errorf("devenv/dovecot: deliver: %w", err)
	}
	return nil
}

// Stored is one message of a mailbox.
type Stored struct {
	Folder, Flags string
	SHA256        string // of the bytes as they travel over IMAP, hex
	File          string // path
}

// Messages lists a mailbox from its files.
func (s *Server) Messages(name string) ([]Stored, error) {
	var out []Stored
	base := filepath.Join(s.home(name), "Maildir")
	err := filepath.WalkDir(base, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // renamed in between
		}
		if err != nil || entry.IsDir() {
			return err
		}
		dir := filepath.Dir(path)
		if sub := filepath.Base(dir); sub != "cur" && sub != "new" {
			return nil
		}
		raw, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		raw = bytes.ReplaceAll(raw, []byte{0}, []byte{0x80}) // IMAP carries no NUL; the server writes this instead
		raw = bytes.ReplaceAll(bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
		sum := sha256.Sum256(raw)
		_, flags, _ := strings.Cut(filepath.Base(path), ":2,")
		folder, err := filepath.Rel(base, filepath.Dir(dir))
		out = append(out, Stored{Folder: strings.TrimPrefix(folder, "."), Flags: flags, SHA256: hex.EncodeToString(sum[:]), File: path})
		return err
	})
	slices.SortFunc(out, func(a, b Stored) int {
		return strings.Compare(a.Folder+a.SHA256+a.Flags, b.Folder+b.SHA256+b.Flags)
	})
	return out, err
}

// Repair takes false sizes out of the names of a mailbox's files; the server finds the true ones out.
func (s *Server) Repair(name string) error {
	list, err := s.Messages(name)
	for _, m := range list {
		file, info, _ := strings.Cut(filepath.Base(m.File), ":2,")
		bare, _, sized := strings.Cut(file, ",S=")
		if sized && err == nil {
			err = os.Rename(m.File, filepath.Join(filepath.Dir(filepath.Dir(m.File)), "cur", bare+":2,"+info))
		}
	}
	return err
}

// ChangeUIDValidity makes the server forget all numbers of a mailbox, as a restore from a backup does.
func (s *Server) ChangeUIDValidity(ctx context.Context, name string) error {
	err := s.Halt()
	if err != nil {
		return err
	}
	err = filepath.WalkDir(filepath.Join(s.home(name), "Maildir"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		base := filepath.Base(path)
		if base == "dovecot-uidlist" || strings.HasPrefix(base, "dovecot.index") || strings.HasPrefix(base, "dovecot.list.index") {
			return os.Remove(path)
		}
		return nil
	})
	return errors.Join(err, s.serve(ctx))
}
