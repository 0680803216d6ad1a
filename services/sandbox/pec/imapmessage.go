package pec

import (
	"bufio"
	"bytes"
	"slices"
	"strings"
	"time"

	rfc "ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/services/sandbox/fault"
	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-message/textproto"
)

// seen is a letter as it was when a command began: what goes over the wire holds no lock.
type seen struct {
	l     *letter
	num   uint32 // as the client counts; 0 when it does not know the letter yet
	own   uint32 // as the folder counts
	flags []imap.Flag
}

// pick gives the letters of a set. fn, when given, runs on each under the lock.
func (s *session) pick(set imap.NumSet, fn func(*letter, uint32)) []seen {
	s.mb.mu.Lock()
	defer s.mb.mu.Unlock()
	f := s.sel
	set = static(set, uint32(len(f.letters)), uint32(f.next)-1)
	var out []seen
	for i, l := range f.letters {
		own := uint32(i) + 1
		num := s.view.EncodeSeqNum(own)
		in := false
		switch set := set.(type) {
		case imap.SeqSet:
			in = num != 0 && set.Contains(num)
		case imap.UIDSet:
			in = set.Contains(l.uid)
		}
		if !in || num == 0 {
			continue
		}
		if fn != nil {
			fn(l, own)
		}
		out = append(out, seen{l, num, own, l.flagList()})
	}
	return out
}

// static puts numbers for "*".
func static(set imap.NumSet, last, lastUID uint32) imap.NumSet {
	switch set := set.(type) {
	case imap.SeqSet:
		out := slices.Clone(set)
		for i := range out {
			bound(&out[i].Start, &out[i].Stop, last)
		}
		return out
	case imap.UIDSet:
		out := slices.Clone(set)
		for i := range out {
			bound((*uint32)(&out[i].Start), (*uint32)(&out[i].Stop), lastUID)
		}
		return out
	}
	return set
}

func bound(start, stop *uint32, last uint32) {
	star := *start == 0 || *stop == 0
	if *start == 0 {
		*start = last
	}
	if *stop == 0 {
		*stop = last
	}
	if star && *start > *stop {
		*start, *stop = *stop, *start
	}
}

// Fetch implements imapserver.Session.
func (s *session) Fetch(w *imapserver.FetchWriter, set imap.NumSet, o *imap.FetchOptions) error {
	order := s.slow(fault.PECFetch)
	mark := slices.ContainsFunc(o.BodySection, func(b *imap.FetchItemBodySection) bool { return !b.Peek }) ||
		slices.ContainsFunc(o.BinarySection, func(b *imap.FetchItemBinarySection) bool { return !b.Peek })
	tracker := s.sel.tracker
	picked := s.pick(set, func(l *letter, own uint32) {
		if mark && !l.flags[`\seen`] {
			l.flags[`\seen`] = true
			tracker.QueueMessageFlags(own, l.uid, l.flagList(), nil)
		}
	})
	for _, p := range picked {
		cut := order.Kind == client.FaultPECIMAPCut && len(o.BodySection) > 0
		if err := s.fetch(w.CreateMessage(p.num), p, o, cut); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) fetch(w *imapserver.FetchResponseWriter, p seen, o *imap.FetchOptions, cut bool) error {
	raw := p.l.raw
	w.WriteUID(p.l.uid)
	if o.Flags {
		w.WriteFlags(p.flags)
	}
	if o.InternalDate {
		w.WriteInternalDate(p.l.at)
	}
	if o.RFC822Size {
		w.WriteRFC822Size(int64(len(raw)))
	}
	if o.Envelope {
		w.WriteEnvelope(envelope(raw))
	}
	if o.BodyStructure != nil {
		w.WriteBodyStructure(imapserver.ExtractBodyStructure(bytes.NewReader(raw)))
	}
	for _, b := range o.BodySection {
		data := section(raw, b)
		lit := w.WriteBodySection(b, int64(len(data)))
		if cut {
			_, _ = lit.Write(data[:len(data)/2])
			return s.conn.NetConn().Close()
		}
		_, err := lit.Write(data)
		if end := lit.Close(); err == nil {
			err = end
		}
		if err != nil {
			return err
		}
	}
	for _, b := range o.BinarySection {
		data := imapserver.ExtractBinarySection(bytes.NewReader(raw), b)
		lit := w.WriteBinarySection(b, int64(len(data)))
		_, err := lit.Write(data)
		if end := lit.Close(); err == nil {
			err = end
		}
		if err != nil {
			return err
		}
	}
	for _, b := range o.BinarySectionSize {
		w.WriteBinarySectionSize(b, imapserver.ExtractBinarySectionSize(bytes.NewReader(raw), b))
	}
	return w.Close()
}

func envelope(raw []byte) *imap.Envelope {
	h, err := textproto.ReadHeader(bufio.NewReader(bytes.NewReader(raw)))
	if err != nil {
		return &imap.Envelope{}
	}
	return imapserver.ExtractEnvelope(h)
}

// section gives the whole message, its header and its text as they are stored, byte by byte:
// signatures are over these bytes. Parts of it are found by the library.
func section(raw []byte, b *imap.FetchItemBodySection) []byte {
	if len(b.Part) > 0 || len(b.HeaderFields) > 0 || len(b.HeaderFieldsNot) > 0 {
		return imapserver.ExtractBodySection(bytes.NewReader(raw), b)
	}
	head := len(raw)
	if i := bytes.Index(raw, []byte("\r\n\r\n")); i >= 0 {
		head = i + 4
	}
	data := raw
	switch b.Specifier {
	case imap.PartSpecifierHeader:
		data = raw[:head]
	case imap.PartSpecifierText:
		data = raw[head:]
	case imap.PartSpecifierMIME:
		return imapserver.ExtractBodySection(bytes.NewReader(raw), b)
	}
	if p := b.Partial; p != nil {
		from := min(max(p.Offset, 0), int64(len(data)))
		data = data[from:min(from+max(p.Size, 0), int64(len(data)))]
	}
	return data
}

// Store implements imapserver.Session.
func (s *session) Store(w *imapserver.FetchWriter, set imap.NumSet, change *imap.StoreFlags, _ *imap.StoreOptions) error {
	tracker, view := s.sel.tracker, s.view
	picked := s.pick(set, func(l *letter, own uint32) {
		if change.Op == imap.StoreFlagsSet {
			l.flags = map[imap.Flag]bool{}
		}
		for _, f := range change.Flags {
			if change.Op == imap.StoreFlagsDel {
				delete(l.flags, canonical(f))
			} else {
				l.flags[canonical(f)] = true
			}
		}
		tracker.QueueMessageFlags(own, l.uid, l.flagList(), view)
	})
	if change.Silent {
		return nil
	}
	for _, p := range picked {
		if err := s.fetch(w.CreateMessage(p.num), p, &imap.FetchOptions{Flags: true}, false); err != nil {
			return err
		}
	}
	return nil
}

// Expunge implements imapserver.Session. The server tells the session by Poll.
func (s *session) Expunge(_ *imapserver.ExpungeWriter, uids *imap.UIDSet) error {
	s.mb.mu.Lock()
	defer s.mb.mu.Unlock()
	var set imap.UIDSet
	if uids != nil {
		set, _ = static(*uids, 0, uint32(s.sel.next)-1).(imap.UIDSet)
	}
	s.mb.expunge(s.sel, func(l *letter) bool { return l.flags[`\deleted`] && (uids == nil || set.Contains(l.uid)) })
	return nil
}

// Copy implements imapserver.Session.
func (s *session) Copy(set imap.NumSet, dest string) (*imap.CopyData, error) {
	data, _, err := s.copy(set, dest)
	return data, err
}

// Move implements imapserver.SessionMove. It needs no space: a full mailbox can be tidied up.
func (s *session) Move(w *imapserver.MoveWriter, set imap.NumSet, dest string) error {
	data, picked, err := s.copy(set, dest)
	if err != nil {
		return err
	}
	if err := w.WriteCopyData(data); err != nil {
		return err
	}
	gone := map[*letter]bool{}
	for _, p := range picked {
		gone[p.l] = true
	}
	s.mb.mu.Lock()
	defer s.mb.mu.Unlock()
	s.mb.expunge(s.sel, func(l *letter) bool { return gone[l] })
	return nil
}

func (s *session) copy(set imap.NumSet, dest string) (*imap.CopyData, []seen, error) {
	picked := s.pick(set, nil)
	s.mb.mu.Lock()
	to := s.mb.folders[folderName(dest)]
	same := to == s.sel
	s.mb.mu.Unlock()
	switch {
	case to == nil:
		return nil, nil, no(imap.ResponseCodeTryCreate, "no such folder")
	case same:
		return nil, nil, no("", "source and destination are the same")
	}
	data := &imap.CopyData{UIDValidity: to.validity}
	for _, p := range picked {
		l, _, err := s.w.put(s.mb, dest, p.l.raw, p.l.at, p.flags)
		if err != nil {
			return nil, nil, errNoFolder
		}
		data.SourceUIDs.AddNum(p.l.uid)
		data.DestUIDs.AddNum(l.uid)
	}
	return data, picked, nil
}

// Search implements imapserver.Session.
func (s *session) Search(kind imapserver.NumKind, c *imap.SearchCriteria, _ *imap.SearchOptions) (*imap.SearchData, error) {
	s.mb.mu.Lock()
	last, lastUID := uint32(len(s.sel.letters)), uint32(s.sel.next)-1
	s.mb.mu.Unlock()
	var data imap.SearchData
	var seqs imap.SeqSet
	var uids imap.UIDSet
	for _, p := range s.pick(imap.SeqSet{{Start: 1, Stop: 0}}, nil) {
		if !p.match(c, last, lastUID, 0) {
			continue
		}
		n := p.num
		if kind == imapserver.NumKindUID {
			n = uint32(p.l.uid)
		}
		seqs.AddNum(p.num)
		uids.AddNum(p.l.uid)
		if data.Min == 0 || n < data.Min {
			data.Min = n
		}
		data.Max = max(data.Max, n)
		data.Count++
	}
	data.All = seqs
	if kind == imapserver.NumKindUID {
		data.All = uids
	}
	return &data, nil
}

// match judges one letter; depth bounds NOT and OR.
func (p seen) match(c *imap.SearchCriteria, last, lastUID uint32, depth int) bool {
	for _, set := range c.SeqNum {
		if in, ok := static(set, last, lastUID).(imap.SeqSet); !ok || !in.Contains(p.num) {
			return false
		}
	}
	for _, set := range c.UID {
		if in, ok := static(set, last, lastUID).(imap.UIDSet); !ok || !in.Contains(p.l.uid) {
			return false
		}
	}
	has := func(f imap.Flag) bool {
		return slices.ContainsFunc(p.flags, func(g imap.Flag) bool { return canonical(g) == canonical(f) })
	}
	if slices.ContainsFunc(c.Flag, func(f imap.Flag) bool { return !has(f) }) || slices.ContainsFunc(c.NotFlag, has) {
		return false
	}
	if !between(p.l.at, c.Since, c.Before) || c.Larger != 0 && int64(len(p.l.raw)) <= c.Larger || c.Smaller != 0 && int64(len(p.l.raw)) >= c.Smaller {
		return false
	}
	if !p.matchText(c) {
		return false
	}
	if depth > 50 {
		return false
	}
	for i := range c.Not {
		if p.match(&c.Not[i], last, lastUID, depth+1) {
			return false
		}
	}
	for i := range c.Or {
		if !p.match(&c.Or[i][0], last, lastUID, depth+1) && !p.match(&c.Or[i][1], last, lastUID, depth+1) {
			return false
		}
	}
	return true
}

// matchText looks at fields as decoded and at bodies as stored.
func (p seen) matchText(c *imap.SearchCriteria) bool {
	if len(c.Header) == 0 && len(c.Text) == 0 && len(c.Body) == 0 && c.SentSince.IsZero() && c.SentBefore.IsZero() {
		return true
	}
	m, err := rfc.ParseBytes(p.l.raw)
	if err != nil {
		return false
	}
	for _, h := range c.Header {
		hit := slices.ContainsFunc(m.Root.Header, func(f rfc.Field) bool {
			return strings.EqualFold(f.Name, h.Key) && strings.Contains(strings.ToLower(rfc.DecodeText(f.Value)), strings.ToLower(h.Value))
		})
		if !hit {
			return false
		}
	}
	if !c.SentSince.IsZero() || !c.SentBefore.IsZero() {
		sent, err := time.Parse("Mon, 02 Jan 2006 15:04:05 -0700", m.Root.Header.Get("Date"))
		if err != nil || !between(sent, c.SentSince, c.SentBefore) {
			return false
		}
	}
	low := bytes.ToLower(p.l.raw)
	body := bytes.ToLower(section(p.l.raw, &imap.FetchItemBodySection{Specifier: imap.PartSpecifierText}))
	return !slices.ContainsFunc(c.Text, func(t string) bool { return !bytes.Contains(low, bytes.ToLower([]byte(t))) }) &&
		!slices.ContainsFunc(c.Body, func(t string) bool { return !bytes.Contains(body, bytes.ToLower([]byte(t))) })
}

// between compares days, without zone. spec: RFC3501 §6.4.4
func between(t, since, before time.Time) bool {
	t = time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC)
	return (since.IsZero() || !t.Before(since)) && (before.IsZero() || t.Before(before))
}
