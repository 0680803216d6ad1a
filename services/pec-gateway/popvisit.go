package pecgateway

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/pec-gateway/internal/db"
	"ceralacca.dev/services/pec-gateway/internal/pop3"
)

// popFolder is the one folder that POP3 has, as locations name it.
const popFolder = "INBOX"

// popPlace is where messages over POP3 stand.
var popPlace = place{folder: popFolder, shown: popFolder}

// overPOP3 reads what is not known yet. Nothing is deleted. A unique id that is known is not fetched again, as long as
// ids prove to stand for what they stood for; what is known by its bytes is not received twice in any case.
// spec: RFC1939 §7 (UIDL)
func (v *visit) overPOP3(ctx context.Context, address, password string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	c, err := pop3.Dial(ctx, v.s.dialer, address, v.s.tlsFor(host), v.s.cfg.Timeout)
	if err != nil {
		return err
	}
	defer c.Close()
	err = c.Login(v.box.Username, password)
	if err != nil {
		return err
	}
	list, err := c.List()
	if err != nil {
		return err
	}
	if v.box.SyncEndTime == nil {
		err = v.foundSoMany(ctx, int64(len(list)))
		if err != nil {
			return err
		}
	}
	err = v.lookBehind(ctx)
	if err != nil {
		return err
	}
	p := &popVisit{visit: v, c: c}
	err = p.load(ctx)
	if err != nil {
		return err
	}
	err = p.retrieve(ctx, list)
	if err != nil {
		return err
	}
	err = v.mendOverPOP3(ctx, c, list)
	if err != nil {
		return err
	}
	err = v.readWhole(ctx)
	if err != nil {
		return err
	}
	err = v.computedRoom(ctx, list)
	if err != nil {
		return err
	}
	err = c.Quit()
	if err != nil {
		return err
	}
	return v.good(ctx)
}

// popVisit is one session. A mark is what the header and the size of a message are: servers give unique ids to other
// messages after they were restored, or have none.
type popVisit struct {
	*visit
	c      *pop3.Client
	byUID  map[string]db.KnownMarksRow
	byMark map[string]uuid.UUID
	noTOP  bool
	items  []*found
	size   int64
}

func (p *popVisit) load(ctx context.Context) error {
	p.byUID, p.byMark = map[string]db.KnownMarksRow{}, map[string]uuid.UUID{}
	return p.s.db.Tx(ctx, p.box.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := q(tx).KnownMarks(ctx, db.KnownMarksParams{TenantID: p.box.TenantID, MailboxID: p.box.ID, Folder: popFolder})
		for _, r := range rows {
			p.byUID[r.Uid] = r
			if len(r.Mark) > 0 {
				p.byMark[string(r.Mark)] = r.MessageID
			}
		}
		return err
	})
}

// mark asks for the header of a message; nil when the server does not give headers alone.
func (p *popVisit) mark(e pop3.Entry) ([]byte, error) {
	if p.noTOP {
		return nil, nil
	}
	sum, err := p.c.Header(e.Number)
	var refused *pop3.ServerError
	if errors.As(err, &refused) {
		p.noTOP = true
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return markOf(sum, e.Size), nil
}

func markOf(header []byte, size int64) []byte {
	return binary.BigEndian.AppendUint64(slices.Clone(header), uint64(size))
}

// steady says whether the unique ids of this session can be gone by: there are some, each once, and the first and the
// last known message are still what they were. Ids that were given anew move one of them.
func (p *popVisit) steady(list []pop3.Entry) (bool, error) {
	times := map[string]bool{}
	var known []pop3.Entry
	for _, e := range list {
		if e.UID == "" || times[e.UID] {
			return false, nil
		}
		times[e.UID] = true
		if _, ok := p.byUID[e.UID]; ok {
			known = append(known, e)
		}
	}
	if len(known) == 0 {
		return true, nil
	}
	for _, e := range []pop3.Entry{known[0], known[len(known)-1]} {
		mark, err := p.mark(e)
		if err != nil {
			return false, err
		}
		if !p.noTOP && string(mark) != string(p.byUID[e.UID].Mark) {
			return false, nil
		}
	}
	return !p.noTOP || p.sizesHold(known), nil
}

// sizesHold says whether known messages still have the sizes that they had: where a server gives no headers alone that is all by which
// another message under a known id is told, short of fetching everything each time.
func (p *popVisit) sizesHold(list []pop3.Entry) bool {
	return !slices.ContainsFunc(list, func(e pop3.Entry) bool {
		mark := p.byUID[e.UID].Mark
		return len(mark) < 8 || binary.BigEndian.Uint64(mark[len(mark)-8:]) != uint64(e.Size)
	})
}

// retrieve takes in what is new.
func (p *popVisit) retrieve(ctx context.Context, list []pop3.Entry) error {
	defer func() { batch{items: p.items}.close() }()
	steady, err := p.steady(list)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, e := range list {
		if _, ok := p.byUID[e.UID]; ok && steady {
			continue
		}
		uid, err := p.identify(ctx, e, steady, seen)
		if err != nil {
			return err
		}
		if uid == known || p.waiting(popPlace, uid) {
			continue
		}
		err = p.take(ctx, e, uid, seen)
		if err != nil {
			return err
		}
		if len(p.items) >= batchMessages || p.size >= batchBytes {
			err = p.flush(ctx)
			if err != nil {
				return err
			}
		}
	}
	return p.flush(ctx)
}

// known stands for the id of a message that need not be fetched.
const known = "\x00known"

// identify gives the id under which a message is written down, "" when only its bytes can tell.
func (p *popVisit) identify(ctx context.Context, e pop3.Entry, steady bool, seen map[string]bool) (string, error) {
	if steady {
		return e.UID, nil
	}
	mark, err := p.mark(e)
	if err != nil {
		return "", err
	}
	uid := e.UID
	if mark == nil { // it is fetched, and then its id stands for it
		if seen[uid] {
			uid = ""
		}
		return uid, nil
	}
	if uid == "" || seen[uid] {
		uid = "top:" + hex.EncodeToString(mark)
	}
	message, ok := p.byMark[string(mark)]
	if !ok {
		return uid, nil
	}
	seen[uid] = true
	if p.byUID[uid].MessageID != message { // its id stood for another
		return known, p.relocate(ctx, uid, message, mark)
	}
	return known, nil
}

// relocate writes down that an id stands for another message that is known.
func (p *popVisit) relocate(ctx context.Context, uid string, message uuid.UUID, mark []byte) error {
	return p.s.db.Tx(ctx, p.box.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		err := p.hold(ctx, tx)
		if err != nil {
			return err
		}
		return q(tx).InsertLocations(ctx, db.InsertLocationsParams{TenantID: p.box.TenantID, MailboxID: p.box.ID, Folder: popFolder,
			Uids: []string{uid}, MessageIds: []uuid.UUID{message}, Marks: [][]byte{mark}})
	})
}

// take fetches one message. One that the server refuses is left behind, and the others come.
func (p *popVisit) take(ctx context.Context, e pop3.Entry, uid string, seen map[string]bool) error {
	stuck := or(uid, "#"+hex.EncodeToString(binary.BigEndian.AppendUint64(nil, uint64(e.Size))))
	if p.s.stuck.left(p.box.ID, popPlace, stuck) {
		return p.leaveBehind(ctx, popPlace, stuck)
	}
	var sp *spool
	var ours error
	err := p.c.Retrieve(e.Number, func(r io.Reader) error {
		sp, ours = newSpool(r, e.Size)
		return ours
	})
	var refused *pop3.ServerError
	if errors.As(err, &refused) {
		return p.leaveBehind(ctx, popPlace, stuck)
	}
	if err != nil {
		sp.close()
		if ctx.Err() == nil && p.box.Failures > 0 {
			p.s.stuck.count(p.box.ID, popPlace, stuck)
		}
		return err
	}
	header := make([]byte, min(sp.size, inMemory))
	_, err = sp.ReadAt(header, 0)
	if err == nil || errors.Is(err, io.EOF) {
		var sum []byte
		sum, err = sp.sum()
		uid = or(uid, hex.EncodeToString(sum))
	}
	if err != nil || seen[uid] { // the same bytes once more, and no id to tell them apart
		sp.close()
		return err
	}
	seen[uid] = true
	p.items = append(p.items, &found{uid: uid, mark: markOf(pop3.HeaderSum(header), e.Size), says: -1, sp: sp})
	p.size += sp.size
	return nil
}

// flush records what was fetched.
func (p *popVisit) flush(ctx context.Context) error {
	items := p.items
	p.items, p.size = nil, 0
	if len(items) == 0 {
		return nil
	}
	defer batch{items: items}.close()
	err := p.receive(ctx, popPlace, items, 0)
	if err != nil {
		return err
	}
	uids := make([]string, len(items))
	for i, f := range items {
		uids[i] = f.uid
	}
	return p.caughtUp(ctx, popFolder, 0, uids...)
}
