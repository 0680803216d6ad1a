package pecgateway

import (
	"context"
	"errors"
	"io"
	"slices"
	"strconv"
	"sync"

	"ceralacca.dev/services/pec-gateway/internal/db"
	"ceralacca.dev/services/pec-gateway/internal/imap"
)

// intake works on batches of messages while the next is being fetched: one is archived while the one before it is
// read and recorded. There is never more than one in each stage, so memory does not grow with the mailbox.
type intake struct {
	v      *visit
	work   chan batch // to be archived
	kept   chan batch // archived, to be read and recorded
	once   sync.Once
	failed chan struct{} // closed after err is set
	done   chan struct{}
	err    error
}

// batch are messages of one folder; with them the cursor moves to next, 0: it stays.
type batch struct {
	at    place
	items []*found
	next  uint32
}

func (b batch) close() {
	for _, f := range b.items {
		f.sp.close()
	}
}

// openIntake begins to work. finish has to be called.
func (v *visit) openIntake(ctx context.Context) *intake {
	in := &intake{v: v, work: make(chan batch), kept: make(chan batch), failed: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(in.kept)
		for b := range in.work {
			if in.do(func() error { return v.keep(ctx, b.items) }) {
				in.kept <- b
			} else {
				b.close()
			}
		}
	}()
	go func() {
		defer close(in.done)
		for b := range in.kept {
			in.do(func() error { return v.admit(ctx, b.at, b.items, b.next) })
			b.close()
		}
	}()
	return in
}

// do does one thing with a batch, unless something went wrong before, and says whether all is well.
func (in *intake) do(fn func() error) bool {
	select {
	case <-in.failed:
		return false
	default:
	}
	err := fn()
	if err != nil {
		in.once.Do(func() {
			in.err = err
			close(in.failed)
		})
	}
	return err == nil
}

// put hands a batch over, in order. Its messages belong to the intake from now on.
func (in *intake) put(b batch) error {
	select {
	case <-in.failed:
		b.close()
		return in.err
	case in.work <- b:
		return nil
	}
}

// finish waits until everything is recorded and says what went wrong.
func (in *intake) finish() error {
	close(in.work)
	<-in.done
	return in.err
}

// collected is what one FETCH brought.
type collected struct {
	items []*found
	got   map[uint32]bool
	ours  error // what went wrong here, not at the server
}

// collect fetches messages; full is called when so many bytes are there that they should be handed on. With an error comes what was
// whole before it; the caller closes it.
func collect(c *imap.Client, uids []uint32, full func([]*found) error) (*collected, error) {
	got := &collected{got: make(map[uint32]bool, len(uids))}
	size := int64(0)
	var last *spool
	err := c.Fetch(uids, func(says int64, r io.Reader) (err error) {
		last.close()
		last, err = newSpool(r, says)
		var room *roomError
		if errors.As(err, &room) {
			got.ours = err
		}
		return err
	}, func(m imap.Message) error {
		got.got[m.UID] = true
		got.items = append(got.items, &found{uid: strconv.FormatUint(uint64(m.UID), 10), date: m.Date, says: m.Size, sp: last})
		size += last.size
		last = nil
		if size < batchBytes || full == nil {
			return nil
		}
		got.ours = full(got.items)
		got.items, size = nil, 0
		return got.ours
	})
	last.close()
	return got, err
}

// behind is the number behind those that came without a gap, 0 when the first did not.
func (c *collected) behind(uids []uint32) uint32 {
	next := uint32(0)
	for _, u := range uids {
		if !c.got[u] {
			break
		}
		next = u + 1
	}
	return next
}

// fetch takes some messages in and moves the cursor behind them.
func (v *visit) fetch(ctx context.Context, c *imap.Client, in *intake, at place, uids []uint32) error {
	first, next, alone := uids[0], uids[len(uids)-1]+1, len(uids) == 1
	if at.still {
		next = 0
	}
	name := strconv.FormatUint(uint64(first), 10)
	if alone && v.s.stuck.left(v.box.ID, at, name) {
		err := v.leaveBehind(ctx, at, name)
		if err != nil {
			return err
		}
		return in.put(batch{at: at, next: next})
	}
	got, err := collect(c, uids, func(items []*found) error { return in.put(batch{at: at, items: items}) })
	if err == nil && len(got.got) == len(uids) {
		return in.put(batch{at: at, items: got.items, next: next})
	}
	if err != nil && !imap.Refused(err) {
		if got.ours != nil {
			batch{items: got.items}.close()
			return err
		}
		if alone && ctx.Err() == nil {
			v.s.stuck.count(v.box.ID, at, name)
		}
		next = got.behind(uids) // what came whole before the connection ended is not asked for again
		if at.still {
			next = 0
		}
		return errors.Join(err, in.put(batch{at: at, items: got.items, next: next}))
	}
	failed := in.put(batch{at: at, items: got.items})
	if failed != nil {
		return failed
	}
	missed := slices.DeleteFunc(slices.Clone(uids), func(u uint32) bool { return got.got[u] })
	if len(missed) > 0 {
		err = v.missing(ctx, c, in, at, missed, alone, err)
		if err != nil {
			return err
		}
	}
	return in.put(batch{at: at, next: next})
}

// missing looks why messages did not come although the connection is well. What another program deleted or moved in
// between is passed; a server that has a message and does not give it is asked again, for that message alone.
// spec: RFC5530 §3 (EXPUNGEISSUED)
func (v *visit) missing(ctx context.Context, c *imap.Client, in *intake, at place, uids []uint32, alone bool, refusal error) error {
	held, err := c.Held(uids)
	if err != nil {
		return err
	}
	err = v.gone(ctx, at, slices.DeleteFunc(slices.Clone(uids), func(u uint32) bool { return slices.Contains(held, u) }))
	if err != nil {
		return err
	}
	if len(held) == 0 {
		return nil
	}
	if !alone {
		for i := range held {
			err = v.fetch(ctx, c, in, at, held[i:i+1])
			if err != nil {
				return err
			}
		}
		return nil
	}
	name := strconv.FormatUint(uint64(held[0]), 10)
	if v.s.stuck.count(v.box.ID, at, name) < stuckTimes {
		return &unread{refusal} // the next visit tries again
	}
	return v.leaveBehind(ctx, at, name)
}

// unread ends a visit at a message that was refused: as an answer to a command it would only end its folder.
type unread struct{ refusal error } // nil: the server said nothing of it

func (u *unread) Error() string {
	if u.refusal == nil {
		return "the server has a message and does not give it"
	}
	return "a message was refused: " + u.refusal.Error()
}

// retry asks once more for a message that was left behind. The attempt counts before it is made: if it cuts the
// connection, the next visit does not begin with it.
func (v *visit) retry(ctx context.Context, c *imap.Client, at place, b db.ListUnfetchedRow) error {
	uid, err := strconv.ParseUint(b.Uid, 10, 32)
	if err != nil || b.UidValidity != int64(at.validity) {
		return v.caughtUp(ctx, b.Folder, b.UidValidity, b.Uid) // that number stands for nothing any more
	}
	err = v.leaveBehind(ctx, at, b.Uid)
	if err != nil {
		return err
	}
	got, err := collect(c, []uint32{uint32(uid)}, nil)
	defer batch{items: got.items}.close()
	if imap.Refused(err) && len(got.items) > 0 {
		err = nil // it came before the refusal
	}
	if imap.Refused(err) || err == nil && len(got.items) == 0 {
		var held []uint32
		held, err = c.Held([]uint32{uint32(uid)})
		if err == nil && len(held) > 0 {
			return nil
		}
		if err == nil {
			err = v.gone(ctx, at, []uint32{uint32(uid)})
		}
	}
	if err == nil {
		err = v.receive(ctx, at, got.items, 0)
	}
	if err != nil {
		return err
	}
	return v.caughtUp(ctx, b.Folder, b.UidValidity, b.Uid)
}
