package pecgateway

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"

	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/pec-gateway/internal/db"
)

// sentKept bounds the messages of ours that are at hand at a time; receipts about others have theirs fetched each.
const sentKept = 8

// sentBatch keeps, over a batch of receipts, the messages of ours that they are about: each of the thousand receipts of a
// message to a thousand recipients is held against its content, which is fetched and read once.
type sentBatch struct {
	mu sync.Mutex
	by map[[2]string]*sentContent
}

// sentContent is a message of ours as it was sent. It is only read, by many at a time.
type sentContent struct {
	once sync.Once
	ours bool   // there is such a message
	note string // why there is nothing to compare with
	sp   *spool
	root *pec.Part
	odd  error // it cannot be read
	err  error // the database or the store is away
}

// of gives the message that a receipt names; done has to be called after the last use.
func (b *sentBatch) of(ctx context.Context, s *Service, box db.Mailbox, j *judged) (c *sentContent, done func()) {
	key := [2]string{j.ref, j.ident}
	done = func() {}
	b.mu.Lock()
	c = b.by[key]
	switch {
	case c == nil && len(b.by) < sentKept:
		if b.by == nil {
			b.by = map[[2]string]*sentContent{}
		}
		c = &sentContent{}
		b.by[key] = c
	case c == nil:
		c = &sentContent{}
		done = c.close
	}
	b.mu.Unlock()
	c.once.Do(func() { c.fetch(ctx, s, box, j) })
	return c, done
}

func (b *sentBatch) close() {
	for _, c := range b.by {
		c.close()
	}
}

func (c *sentContent) close() { c.sp.close() }

func (c *sentContent) fetch(ctx context.Context, s *Service, box db.Mailbox, j *judged) {
	sent, err := s.sentOf(ctx, box, j)
	if err != nil || sent == nil {
		c.err = err
		return
	}
	c.ours = true
	c.sp, err = s.fromArchive(ctx, sent.ContentUri)
	switch {
	case err == nil:
		c.root, c.odd = parseSent(c.sp)
	case fault.Permanent(err):
		c.note = "what was sent is not kept any more"
	default:
		c.err = err
	}
}

// parseSent reads; a panic of the reader is an error like any other.
func parseSent(sp *spool) (root *pec.Part, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the reader failed: %v\n%s", p, debug.Stack())
		}
	}()
	m, err := pec.Parse(sp, sp.size, pec.Limits{Size: sp.size + 1})
	if err != nil {
		return nil, err
	}
	return m.Root, nil
}
