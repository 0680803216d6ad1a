package imap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Folder is one that can be opened.
type Folder struct {
	Name  string // as the server writes it
	Shown string // decoded
	Use   []string
}

// Is says whether the folder has a use, such as \Sent. spec: RFC6154 §2
func (f Folder) Is(use string) bool {
	return slices.ContainsFunc(f.Use, func(u string) bool { return strings.EqualFold(u, use) })
}

// maxFolders bounds what a server may make us visit.
const maxFolders = 10_000

// maxUses bounds the attributes of one folder: RFC3501 §7.2.2 and RFC6154 §2 know fewer than twenty.
const maxUses = 100

// List gives all folders that can be opened.
func (c *Client) List() ([]Folder, error) {
	text := `"" "*"`
	if c.Has("SPECIAL-USE") && c.Has("LIST-EXTENDED") {
		text += " RETURN (SPECIAL-USE)"
	}
	var out []Folder
	err := c.run("LIST", text, func(name string, _ uint32, p *response) error {
		if name != "LIST" {
			return nil
		}
		var f Folder
		if p.open() {
			for p.more() {
				use := p.word()
				if use == "" || len(f.Use) == maxUses {
					p.bad("the attributes of a folder are not a list of at most %d words", maxUses)
				}
				f.Use = append(f.Use, use)
			}
		}
		p.str() // the delimiter
		f.Name = p.str()
		if p.err != nil || f.Name == "" || f.Is(`\Noselect`) || f.Is(`\NonExistent`) {
			return p.err
		}
		f.Shown = decodeName(f.Name)
		if strings.EqualFold(f.Name, "INBOX") {
			f.Name, f.Shown = "INBOX", "INBOX"
		}
		out = append(out, f)
		if len(out) > maxFolders {
			return fmt.Errorf("%w: more than %d folders", ErrProtocol, maxFolders)
		}
		return nil
	})
	return out, err
}

// Status of a folder.
type Status struct {
	Messages    int64
	UIDValidity uint32
	UIDNext     uint32 // 0: the server does not say
}

// Status asks about a folder without opening it.
func (c *Client) Status(folder string) (Status, error) {
	var st Status
	// The list of items follows the name, so it travels as part of the last argument.
	err := c.runNamed("STATUS", folder, " (MESSAGES UIDNEXT UIDVALIDITY)", func(name string, _ uint32, p *response) error {
		if name != "STATUS" {
			return nil
		}
		p.str()
		if !p.open() {
			return nil
		}
		for p.more() {
			switch strings.ToUpper(p.word()) {
			case "MESSAGES":
				st.Messages = int64(p.number())
			case "UIDNEXT":
				st.UIDNext = uint32(p.number())
			case "UIDVALIDITY":
				st.UIDValidity = uint32(p.number())
			default:
				p.value(0)
			}
		}
		return p.err
	})
	return st, err
}

// Examine opens a folder for reading only: nothing is marked. spec: RFC3501 §6.3.2
func (c *Client) Examine(folder string) (Status, error) { return c.open("EXAMINE", folder) }

func (c *Client) open(command, folder string) (Status, error) {
	var st Status
	err := c.runNamed(command, folder, "", func(name string, number uint32, p *response) error {
		switch name {
		case "EXISTS":
			st.Messages = int64(number)
		case "OK":
			code, value, _ := strings.Cut(p.respCode(), " ")
			n, err := strconv.ParseUint(value, 10, 32)
			switch {
			case err != nil:
			case code == "UIDVALIDITY":
				st.UIDValidity = uint32(n)
			case code == "UIDNEXT":
				st.UIDNext = uint32(n)
			}
		}
		return nil
	})
	c.exists = false
	return st, err
}

// changes are the rights without which nothing of a folder can be changed but what was read: to insert, to write flags, to delete,
// to expunge; c and d are those of before. spec: RFC4314 §2.1
const changes = "iwtecd"

// ReadOnly says whether the user may change nothing in the INBOX. known is false when the server does not tell without being asked
// to open it for changes. spec: RFC4314 §3.5
func (c *Client) ReadOnly() (readOnly, known bool, err error) {
	if !c.Has("ACL") {
		return false, false, nil
	}
	err = c.run("MYRIGHTS", `"INBOX"`, func(name string, _ uint32, p *response) error {
		if name != "MYRIGHTS" {
			return nil
		}
		p.str()
		readOnly, known = !strings.ContainsAny(p.str(), changes), p.err == nil
		return p.err
	})
	if Refused(err) {
		return false, false, nil
	}
	return readOnly, known, err
}

// runNamed runs a command about a folder.
func (c *Client) runNamed(command, folder, after string, untagged func(name string, number uint32, p *response) error) error {
	if quotable(folder) {
		return c.run(command, quote(folder)+after, untagged)
	}
	if after == "" {
		return c.run(command, "", untagged, folder)
	}
	// A raw 8-bit name: literal, then the rest of the line.
	c.tag++
	tag := "a" + strconv.Itoa(c.tag)
	_, err := fmt.Fprintf(c.conn, "%s %s {%d}\r\n", tag, command, len(folder))
	if err == nil {
		err = c.leave(tag, command)
	}
	if err == nil {
		_, err = c.conn.Write([]byte(folder + after + "\r\n"))
	}
	if err != nil {
		return err
	}
	return c.await(tag, command, untagged)
}

// maxNumbers bounds the answer to a search: twenty million messages are no mailbox.
const maxNumbers = 20_000_000

// Search gives the numbers of the messages of the open folder from one on, in order.
func (c *Client) Search(from uint32) ([]uint32, error) {
	var out []uint32
	err := c.run("UID SEARCH", fmt.Sprintf("UID %d:*", from), func(name string, _ uint32, p *response) error {
		if name != "SEARCH" {
			return nil
		}
		for {
			w := p.word()
			if w == "" {
				return p.err
			}
			n, err := strconv.ParseUint(w, 10, 32)
			if err != nil {
				return fmt.Errorf("%w: a search found %.30q", ErrProtocol, w)
			}
			// "*" stands for the last message, also when that is before from. spec: RFC3501 §6.4.8
			if uint32(n) >= from {
				out = append(out, uint32(n))
			}
			if len(out) > maxNumbers {
				return fmt.Errorf("%w: more than %d messages", ErrProtocol, maxNumbers)
			}
		}
	})
	slices.Sort(out)
	return slices.Compact(out), err
}

// Held gives those of the messages that the open folder still has. The server is given leave to tell of deletions
// first. spec: RFC3501 §7.4.1
func (c *Client) Held(uids []uint32) ([]uint32, error) {
	err := c.Noop()
	if err != nil {
		return nil, err
	}
	var out []uint32
	err = c.run("UID SEARCH", "UID "+set(uids), func(name string, _ uint32, p *response) error {
		for name == "SEARCH" {
			w := p.word()
			if w == "" {
				return p.err
			}
			n, err := strconv.ParseUint(w, 10, 32)
			if err == nil && slices.Contains(uids, uint32(n)) {
				out = append(out, uint32(n))
			}
		}
		return nil
	})
	slices.Sort(out)
	return slices.Compact(out), err
}

// Message is what came beside the bytes of one message.
type Message struct {
	UID  uint32
	Size int64     // as the server says; -1 when it does not
	Date time.Time // INTERNALDATE; zero when it cannot be read
}

// Fetch streams messages of the open folder. For each message body gets its bytes and then done the
// rest; a message that is not there any more gets neither. An error of either ends the connection's use.
func (c *Client) Fetch(uids []uint32, body func(size int64, r io.Reader) error, done func(Message) error) error {
	if len(uids) == 0 {
		return nil
	}
	return c.run("UID FETCH", set(uids)+" (UID RFC822.SIZE INTERNALDATE BODY.PEEK[])", func(name string, _ uint32, p *response) error {
		if name != "FETCH" || !p.open() {
			return nil
		}
		m, has := Message{Size: -1}, false
		for p.more() {
			word := strings.ToUpper(p.word())
			switch {
			case word == "UID":
				m.UID = uint32(p.number())
			case word == "RFC822.SIZE":
				m.Size = int64(p.number())
			case word == "INTERNALDATE":
				m.Date = parseDate(p.str())
			case word == "BODY[]":
				has = p.body(body) || has
			case word == "":
				return fmt.Errorf("%w: an item without a name", ErrProtocol)
			default:
				p.value(0)
			}
			if p.err != nil {
				return p.err
			}
		}
		if p.err != nil || !has || m.UID == 0 {
			return p.err // a change of flags that nobody asked for
		}
		return done(m)
	})
}

// body gives the bytes of a message to fn; false for NIL.
func (p *response) body(fn func(size int64, r io.Reader) error) bool {
	p.skip()
	switch p.peek() {
	case '{':
		p.literal(fn)
		return true
	case '"':
		s := p.quoted()
		if p.err == nil {
			p.err = fn(int64(len(s)), strings.NewReader(s))
		}
		return true
	}
	p.word()
	return false
}

// set writes numbers as IMAP does, ranges joined. spec: RFC3501 §9 sequence-set
func set(uids []uint32) string {
	var b strings.Builder
	for i := 0; i < len(uids); {
		j := i
		for j+1 < len(uids) && uids[j+1] == uids[j]+1 {
			j++
		}
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%d", uids[i])
		if j > i {
			fmt.Fprintf(&b, ":%d", uids[j])
		}
		i = j + 1
	}
	return b.String()
}

func parseDate(s string) time.Time {
	t, err := time.Parse("_2-Jan-2006 15:04:05 -0700", strings.TrimSpace(s))
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}

// Idle waits for new messages in the open folder, at most so long, and then so long for the server to say that the waiting is
// over: a connection that died in silence is found out by that. It says whether any came. spec: RFC2177
func (c *Client) Idle(ctx context.Context, most, answer time.Duration) (bool, error) {
	if c.exists {
		c.exists = false
		return true, nil
	}
	tag, err := c.send("IDLE", "", nil)
	if err != nil {
		return false, err
	}
	err = c.leave(tag, "IDLE")
	if err != nil {
		return false, err
	}
	silence := c.conn.silence
	until := time.Now().Add(most)
	for !c.exists && ctx.Err() == nil {
		c.conn.silence = max(time.Until(until), time.Millisecond)
		_, err = c.r.Peek(1)
		c.conn.silence = silence
		var timeout net.Error
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() {
			break
		}
		if err != nil {
			return false, fmt.Errorf("imap: IDLE: %w", err)
		}
		p, err := c.next()
		if err != nil {
			return false, err
		}
		if p.tag != "*" {
			return false, fmt.Errorf("%w: %.20q while waiting", ErrProtocol, p.tag)
		}
		err = c.unasked("IDLE", p, nil)
		if err != nil {
			return false, err
		}
	}
	c.conn.silence = min(silence, answer)
	defer func() { c.conn.silence = silence }()
	_, err = c.conn.Write([]byte("DONE\r\n"))
	if err != nil {
		return false, fmt.Errorf("imap: IDLE: %w", err)
	}
	err = c.await(tag, "IDLE", nil)
	news := c.exists
	c.exists = false
	return news, err
}

// Quota gives the room of the INBOX in bytes. known is false when the server does not say.
// spec: RFC2087 §4.3
func (c *Client) Quota() (used, limit int64, known bool, err error) {
	if !c.Has("QUOTA") {
		return 0, 0, false, nil
	}
	err = c.run("GETQUOTAROOT", `"INBOX"`, func(name string, _ uint32, p *response) error {
		if name != "QUOTA" {
			return nil
		}
		p.str()
		if !p.open() {
			return nil
		}
		for p.more() {
			resource := strings.ToUpper(p.word())
			u, l := p.number(), p.number()
			if resource == "STORAGE" && l > 0 && l < 1<<50 && u < 1<<50 { // kibibytes
				used, limit, known = int64(u)<<10, int64(l)<<10, true
			}
		}
		return p.err
	})
	if Refused(err) {
		return 0, 0, false, nil
	}
	return used, limit, known, err
}
