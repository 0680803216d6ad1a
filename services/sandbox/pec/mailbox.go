package pec

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	rfc "ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/sandbox/client"
	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
)

const (
	inbox        = "INBOX"
	defaultQuota = 1 << 30

	accept, reject = "accept", "reject"

	active, suspended, disabled, locked = "active", "suspended", "disabled", "locked"

	lockWindow = time.Hour
	maxRefused = 1000 // refused logins remembered
)

// letter is a message in a folder. raw never changes; the rest is under mailbox.mu.
type letter struct {
	id    int
	uid   imap.UID
	raw   []byte
	at    time.Time
	flags map[imap.Flag]bool // lower case
	view  client.PECMessage  // what does not change
}

type folder struct {
	name     string
	use      []imap.MailboxAttr
	off      bool // not subscribed
	validity uint32
	next     imap.UID
	letters  []*letter
	tracker  *imapserver.MailboxTracker
}

// mailbox is what one user has. Lock order: World.mu, then mailbox.mu.
type mailbox struct {
	address string

	mu       sync.Mutex
	password string
	quota    int64
	used     int64
	ordinary string
	state    string
	locks    int // refused logins within lockWindow that lock it; 0: none do
	refused  []client.PECRefusedLogin
	folders  map[string]*folder
	sessions map[*session]bool
}

// open gives the mailbox of an address, made when there is none.
func (w *World) open(address string) *mailbox {
	key := strings.ToLower(address)
	w.mu.Lock()
	defer w.mu.Unlock()
	if mb := w.mailboxes[key]; mb != nil {
		return mb
	}
	mb := &mailbox{
		address: key, password: DefaultPassword, quota: defaultQuota, ordinary: accept, state: active,
		folders: map[string]*folder{}, sessions: map[*session]bool{},
	}
	for name, use := range map[string][]imap.MailboxAttr{
		inbox: nil, "Sent": {imap.MailboxAttrSent}, "Trash": {imap.MailboxAttrTrash}, "Drafts": {imap.MailboxAttrDrafts},
	} {
		w.validity++
		mb.folders[name] = newFolder(name, w.validity, use)
	}
	w.mailboxes[key] = mb
	return mb
}

func newFolder(name string, validity uint32, use []imap.MailboxAttr) *folder {
	return &folder{name: name, use: use, validity: validity, next: 1, tracker: imapserver.NewMailboxTracker(0)}
}

// newValidity is higher than every one before.
func (w *World) newValidity() uint32 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.validity++
	return w.validity
}

// find gives a mailbox that exists.
func (w *World) find(address string) *mailbox {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mailboxes[strings.ToLower(address)]
}

// Has says whether a mailbox exists.
func (w *World) Has(address string) bool { return w.find(address) != nil }

// login checks who asks at one of the doors. A mailbox that is locked lets nobody in, whatever the password.
func (w *World) login(address, password, door string) (*mailbox, bool) {
	refused := w.refusesLogin(address)
	mb := w.find(address)
	if mb == nil {
		return nil, false
	}
	now := w.cfg.Clock.Now()
	mb.mu.Lock()
	defer mb.mu.Unlock()
	right := subtle.ConstantTimeCompare([]byte(mb.password), []byte(password)) == 1
	if !refused && right && mb.state != disabled && mb.state != locked {
		return mb, true
	}
	mb.refused = append(mb.refused, client.PECRefusedLogin{At: now, Door: door})
	mb.refused = mb.refused[max(len(mb.refused)-maxRefused, 0):]
	recent := 0
	for _, r := range mb.refused {
		if now.Sub(r.At) < lockWindow {
			recent++
		}
	}
	if mb.locks > 0 && recent >= mb.locks {
		mb.state = locked
	}
	return nil, false
}

// full says whether so many bytes more are too many.
func (mb *mailbox) fullFor(n int) bool {
	mb.mu.Lock()
	defer mb.mu.Unlock()
	return mb.used+int64(n) > mb.quota
}

// folderName knows that INBOX has no case.
func folderName(name string) string {
	name = strings.TrimRight(name, "/")
	if strings.EqualFold(name, inbox) {
		return inbox
	}
	return name
}

// put adds a message to a folder, whatever the quota says.
func (w *World) put(mb *mailbox, name string, raw []byte, at time.Time, flags []imap.Flag) (*letter, *folder, error) {
	w.mu.Lock()
	w.nextMessage++
	id := w.nextMessage
	w.mu.Unlock()
	l := &letter{id: id, raw: raw, at: at.Truncate(time.Second), flags: map[imap.Flag]bool{}, view: describe(raw)}
	for _, f := range flags {
		l.flags[canonical(f)] = true
	}
	mb.mu.Lock()
	defer mb.mu.Unlock()
	f := mb.folders[folderName(name)]
	if f == nil {
		return nil, nil, fmt.Errorf("mailbox %s has no folder %q", mb.address, name)
	}
	f.add(l)
	mb.used += int64(len(raw))
	return l, f, nil
}

func (f *folder) add(l *letter) {
	l.uid = f.next
	f.next++
	f.letters = append(f.letters, l)
	f.tracker.QueueNumMessages(uint32(len(f.letters)))
}

// expunge takes out the letters that gone says, under mailbox.mu. It gives their numbers, highest
// first, as the tracker was told.
func (mb *mailbox) expunge(f *folder, gone func(*letter) bool) []uint32 {
	var nums []uint32
	for i := len(f.letters) - 1; i >= 0; i-- {
		if l := f.letters[i]; gone(l) {
			mb.used -= int64(len(l.raw))
			f.letters = slices.Delete(f.letters, i, i+1)
			f.tracker.QueueExpunge(uint32(i) + 1)
			nums = append(nums, uint32(i)+1)
		}
	}
	return nums
}

// renumber gives every message a new UID under a new UIDVALIDITY and ends the sessions.
func (w *World) renumber(mb *mailbox) {
	mb.mu.Lock()
	names := make([]string, 0, len(mb.folders))
	for name := range mb.folders {
		names = append(names, name)
	}
	mb.mu.Unlock()
	slices.Sort(names)
	for _, name := range names {
		validity := w.newValidity()
		mb.mu.Lock()
		if old := mb.folders[name]; old != nil {
			f := newFolder(name, validity, old.use)
			for _, l := range old.letters {
				again := *l
				f.add(&again)
			}
			mb.folders[name] = f
		}
		mb.mu.Unlock()
	}
	mb.cut()
}

// cut ends the IMAP sessions.
func (mb *mailbox) cut() {
	mb.mu.Lock()
	ended := make([]*session, 0, len(mb.sessions))
	for s := range mb.sessions {
		ended = append(ended, s)
	}
	mb.mu.Unlock()
	for _, s := range ended {
		_ = s.conn.NetConn().Close()
	}
}

func canonical(f imap.Flag) imap.Flag { return imap.Flag(strings.ToLower(string(f))) }

// spelling of the flags of RFC 3501, that clients expect.
var spelling = map[imap.Flag]imap.Flag{
	`\seen`: imap.FlagSeen, `\answered`: imap.FlagAnswered, `\flagged`: imap.FlagFlagged, `\deleted`: imap.FlagDeleted, `\draft`: imap.FlagDraft,
}

func (l *letter) flagList() []imap.Flag {
	out := make([]imap.Flag, 0, len(l.flags))
	for f := range l.flags {
		if s, ok := spelling[f]; ok {
			f = s
		}
		out = append(out, f)
	}
	slices.Sort(out)
	return out
}

// describe reads what a list of messages shows; of what cannot be read, size and hash.
func describe(raw []byte) client.PECMessage {
	sum := sha256.Sum256(raw)
	v := client.PECMessage{Size: len(raw), SHA256: hex.EncodeToString(sum[:]), Tipo: string(rfc.TipoOrdinaria)}
	r, err := rfc.ReadBytes(raw)
	if err != nil {
		return v
	}
	v.Tipo, v.Subject, v.MsgID = string(r.Tipo()), r.Claim.Subject, r.Claim.Riferimento
	if v.MsgID == "" {
		v.MsgID = r.Claim.MessageID
	}
	if d := r.Daticert; d != nil {
		v.Identificativo, v.Consegna = rfc.TrimID(d.Identificativo), d.Consegna
	}
	return v
}

// messages lists a mailbox by folder and UID.
func (mb *mailbox) messages() []client.PECMessage {
	mb.mu.Lock()
	defer mb.mu.Unlock()
	out := []client.PECMessage{}
	for _, f := range mb.folders {
		for _, l := range f.letters {
			v := l.view
			v.ID, v.Mailbox, v.Folder, v.UID, v.UIDValidity, v.At = l.id, mb.address, f.name, uint32(l.uid), f.validity, l.at
			for _, flag := range l.flagList() {
				v.Flags = append(v.Flags, string(flag))
			}
			out = append(out, v)
		}
	}
	slices.SortFunc(out, func(a, b client.PECMessage) int { return a.ID - b.ID })
	return out
}

func (mb *mailbox) show() client.PECMailbox {
	mb.mu.Lock()
	defer mb.mu.Unlock()
	n := 0
	for _, f := range mb.folders {
		n += len(f.letters)
	}
	return client.PECMailbox{Address: mb.address, Quota: mb.quota, Used: mb.used, Messages: n, Ordinary: mb.ordinary, State: mb.state,
		LockAfter: mb.locks, RefusedLogins: slices.Clone(mb.refused)}
}
