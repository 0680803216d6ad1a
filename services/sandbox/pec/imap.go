package pec

import (
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/services/sandbox/fault"
	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
)

const delimiter = '/'

// maxAppend bounds one APPEND.
const maxAppend = 64 << 20

// quiet takes the IMAP server's log lines: they are about clients, and clients under test do odd
// things on purpose.
type quiet struct{ w *World }

func (q quiet) Printf(format string, args ...any) {
	q.w.cfg.Log.Debug("pec imap", "line", strings.TrimSpace(format), "args", len(args))
}

// newIMAP makes the server of all mailboxes.
func (w *World) newIMAP() *imapserver.Server {
	return imapserver.New(&imapserver.Options{
		NewSession: func(c *imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			return &session{w: w, conn: c}, nil, nil
		},
		Caps: imap.CapSet{
			imap.CapIMAP4rev1: {}, imap.CapNamespace: {}, imap.CapUIDPlus: {}, imap.CapMove: {}, imap.CapESearch: {},
			imap.CapListExtended: {}, imap.CapListStatus: {}, imap.CapStatusSize: {}, imap.CapSpecialUse: {},
		},
		InsecureAuth: true, // every connection has TLS already, below what tells of room
		Logger:       quiet{w},
	})
}

// session is one IMAP connection. The server calls it from one goroutine, Idle apart.
type session struct {
	w    *World
	conn *imapserver.Conn
	mb   *mailbox
	sel  *folder
	view *imapserver.SessionTracker
	// viewed guards view: a connection that ends closes the session while Idle still looks.
	viewed sync.Mutex
}

var (
	_ imapserver.SessionNamespace   = (*session)(nil)
	_ imapserver.SessionMove        = (*session)(nil)
	_ imapserver.SessionAppendLimit = (*session)(nil)
)

func no(code imap.ResponseCode, text string) error {
	return &imap.Error{Type: imap.StatusResponseTypeNo, Code: code, Text: text}
}

var errNoFolder = no(imap.ResponseCodeNonExistent, "no such folder")

// Close implements imapserver.Session.
func (s *session) Close() error {
	_ = s.Unselect()
	if s.mb != nil {
		s.mb.mu.Lock()
		delete(s.mb.sessions, s)
		s.mb.mu.Unlock()
	}
	return nil
}

// Login implements imapserver.Session.
func (s *session) Login(username, password string) error {
	mb, ok := s.w.login(username, password, "imap")
	if !ok {
		return imapserver.ErrAuthFailed
	}
	s.mb = mb
	mb.mu.Lock()
	mb.sessions[s] = true
	mb.mu.Unlock()
	tellsRoom(s.conn, mb)
	return nil
}

// AppendLimit implements imapserver.SessionAppendLimit.
func (s *session) AppendLimit() uint32 { return maxAppend }

// Namespace implements imapserver.SessionNamespace.
func (s *session) Namespace() (*imap.NamespaceData, error) {
	return &imap.NamespaceData{Personal: []imap.NamespaceDescriptor{{Delim: delimiter}}}, nil
}

// slow plays a fault that waits.
func (s *session) slow(kinds []string) client.Fault {
	order, ok := s.w.cfg.Faults.Take(fault.Event{Kinds: kinds, Name: s.mb.address})
	if ok && order.Kind == client.FaultPECIMAPSlow {
		t := time.NewTimer(time.Duration(order.DelayMS) * time.Millisecond)
		defer t.Stop()
		select {
		case <-t.C:
		case <-s.w.ctx.Done():
		}
	}
	return order
}

// Select implements imapserver.Session.
func (s *session) Select(name string, _ *imap.SelectOptions) (*imap.SelectData, error) {
	s.slow(fault.PECOpen)
	_ = s.Unselect()
	s.mb.mu.Lock()
	defer s.mb.mu.Unlock()
	f := s.mb.folders[folderName(name)]
	if f == nil {
		return nil, errNoFolder
	}
	s.viewed.Lock()
	s.sel, s.view = f, f.tracker.NewSession()
	s.viewed.Unlock()
	flags := []imap.Flag{imap.FlagSeen, imap.FlagAnswered, imap.FlagFlagged, imap.FlagDeleted, imap.FlagDraft}
	data := &imap.SelectData{
		Flags: flags, PermanentFlags: append(slices.Clone(flags), imap.FlagWildcard), NumMessages: uint32(len(f.letters)),
		UIDNext: f.next, UIDValidity: f.validity,
	}
	for i, l := range f.letters {
		if !l.flags[`\seen`] {
			data.FirstUnseenSeqNum = uint32(i) + 1
			break
		}
	}
	return data, nil
}

// Unselect implements imapserver.Session.
func (s *session) Unselect() error {
	s.viewed.Lock()
	defer s.viewed.Unlock()
	if s.view != nil {
		s.view.Close()
	}
	s.sel, s.view = nil, nil
	return nil
}

// Create implements imapserver.Session.
func (s *session) Create(name string, o *imap.CreateOptions) error {
	name = folderName(name)
	if name == "" || len(name) > 200 {
		return no(imap.ResponseCodeCannot, "a folder needs a name of at most 200 characters")
	}
	validity := s.w.newValidity()
	s.mb.mu.Lock()
	defer s.mb.mu.Unlock()
	if s.mb.folders[name] != nil {
		return no(imap.ResponseCodeAlreadyExists, "the folder exists")
	}
	if len(s.mb.folders) >= 1000 {
		return no(imap.ResponseCodeLimit, "too many folders")
	}
	var use []imap.MailboxAttr
	if o != nil {
		use = o.SpecialUse
	}
	s.mb.folders[name] = newFolder(name, validity, use)
	return nil
}

// Delete implements imapserver.Session.
func (s *session) Delete(name string) error {
	name = folderName(name)
	s.mb.mu.Lock()
	defer s.mb.mu.Unlock()
	f := s.mb.folders[name]
	if f == nil {
		return errNoFolder
	}
	if name == inbox {
		return no(imap.ResponseCodeCannot, "INBOX stays")
	}
	s.mb.expunge(f, func(*letter) bool { return true })
	delete(s.mb.folders, name)
	return nil
}

// Rename implements imapserver.Session.
func (s *session) Rename(name, to string, _ *imap.RenameOptions) error {
	name, to = folderName(name), folderName(to)
	s.mb.mu.Lock()
	defer s.mb.mu.Unlock()
	f := s.mb.folders[name]
	switch {
	case f == nil:
		return errNoFolder
	case name == inbox || to == "" || len(to) > 200:
		return no(imap.ResponseCodeCannot, "the folder cannot be called so")
	case s.mb.folders[to] != nil:
		return no(imap.ResponseCodeAlreadyExists, "the folder exists")
	}
	f.name = to
	s.mb.folders[to] = f
	delete(s.mb.folders, name)
	return nil
}

// Subscribe implements imapserver.Session.
func (s *session) Subscribe(name string) error { return s.subscribe(name, false) }

// Unsubscribe implements imapserver.Session.
func (s *session) Unsubscribe(name string) error { return s.subscribe(name, true) }

func (s *session) subscribe(name string, off bool) error {
	s.mb.mu.Lock()
	defer s.mb.mu.Unlock()
	f := s.mb.folders[folderName(name)]
	if f == nil {
		return errNoFolder
	}
	f.off = off
	return nil
}

// List implements imapserver.Session.
func (s *session) List(w *imapserver.ListWriter, ref string, patterns []string, o *imap.ListOptions) error {
	if len(patterns) == 0 {
		return w.WriteList(&imap.ListData{Attrs: []imap.MailboxAttr{imap.MailboxAttrNoSelect}, Delim: delimiter})
	}
	for _, d := range s.list(ref, patterns, o) {
		if err := w.WriteList(&d); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) list(ref string, patterns []string, o *imap.ListOptions) []imap.ListData {
	s.mb.mu.Lock()
	defer s.mb.mu.Unlock()
	var out []imap.ListData
	for name, f := range s.mb.folders {
		match := slices.ContainsFunc(patterns, func(p string) bool { return imapserver.MatchList(name, delimiter, ref, p) })
		if !match || o.SelectSubscribed && f.off || o.SelectSpecialUse && len(f.use) == 0 {
			continue
		}
		d := imap.ListData{Mailbox: name, Delim: delimiter, Attrs: slices.Clone(f.use)}
		if !f.off && o.ReturnSubscribed {
			d.Attrs = append(d.Attrs, imap.MailboxAttrSubscribed)
		}
		if o.ReturnStatus != nil {
			d.Status = f.status(o.ReturnStatus)
		}
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b imap.ListData) int { return strings.Compare(a.Mailbox, b.Mailbox) })
	return out
}

// Status implements imapserver.Session.
func (s *session) Status(name string, o *imap.StatusOptions) (*imap.StatusData, error) {
	s.mb.mu.Lock()
	defer s.mb.mu.Unlock()
	f := s.mb.folders[folderName(name)]
	if f == nil {
		return nil, errNoFolder
	}
	return f.status(o), nil
}

func (f *folder) status(o *imap.StatusOptions) *imap.StatusData {
	d := &imap.StatusData{Mailbox: f.name}
	var unseen, deleted uint32
	var size int64
	for _, l := range f.letters {
		if !l.flags[`\seen`] {
			unseen++
		}
		if l.flags[`\deleted`] {
			deleted++
		}
		size += int64(len(l.raw))
	}
	all, recent := uint32(len(f.letters)), uint32(0)
	if o.NumMessages {
		d.NumMessages = &all
	}
	if o.UIDNext {
		d.UIDNext = f.next
	}
	if o.UIDValidity {
		d.UIDValidity = f.validity
	}
	if o.NumUnseen {
		d.NumUnseen = &unseen
	}
	if o.NumDeleted {
		d.NumDeleted = &deleted
	}
	if o.Size {
		d.Size = &size
	}
	if o.NumRecent {
		d.NumRecent = &recent
	}
	return d
}

// Append implements imapserver.Session.
func (s *session) Append(name string, r imap.LiteralReader, o *imap.AppendOptions) (*imap.AppendData, error) {
	if r.Size() > maxAppend {
		_, _ = io.Copy(io.Discard, r)
		return nil, no(imap.ResponseCodeLimit, "the message is too large")
	}
	raw, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	if s.mb.fullFor(len(raw)) {
		return nil, no(imap.ResponseCodeOverQuota, "the mailbox is full")
	}
	at := o.Time
	if at.IsZero() {
		at = s.w.cfg.Clock.Now()
	}
	l, f, err := s.w.put(s.mb, name, raw, at, o.Flags)
	if err != nil {
		return nil, no(imap.ResponseCodeTryCreate, "no such folder")
	}
	s.mb.mu.Lock()
	defer s.mb.mu.Unlock()
	return &imap.AppendData{UIDValidity: f.validity, UID: l.uid}, nil
}

// Poll implements imapserver.Session.
func (s *session) Poll(w *imapserver.UpdateWriter, allowExpunge bool) error {
	s.viewed.Lock()
	view := s.view
	s.viewed.Unlock()
	if view == nil {
		return nil
	}
	return view.Poll(w, allowExpunge)
}

// idleBeat is how soon an idle client hears of a new message.
const idleBeat = 50 * time.Millisecond

// Idle implements imapserver.Session. It asks the tracker again and again: the tracker's own Idle
// misses what came just before it.
func (s *session) Idle(w *imapserver.UpdateWriter, stop <-chan struct{}) error {
	beat := time.NewTicker(idleBeat)
	defer beat.Stop()
	for {
		if err := s.Poll(w, true); err != nil {
			return err
		}
		select {
		case <-stop:
			return nil
		case <-beat.C:
		}
	}
}

func (w *World) serveIMAP(srv *imapserver.Server, l net.Listener) {
	err := srv.Serve(l)
	if err != nil && !errors.Is(err, net.ErrClosed) {
		w.cfg.Log.Debug("pec imap ended", "error", err.Error())
	}
}
