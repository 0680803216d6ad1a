package sdigateway

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/sdi-gateway/internal/db"
)

const (
	savedTogether = 64 // messages in one transaction
	saveTimeout   = 30 * time.Second
	savers        = 2 // one gathers while the other waits for the disk
	// gather is how long more are waited for when the batch before had several: their senders wait
	// anyway, and a full batch costs hardly more than a single message. It ends sooner when nothing has come for
	// lull: then all who send at a time are in the batch, and waiting on would be for nobody.
	gather = 25 * time.Millisecond
	lull   = 3 * time.Millisecond
)

// arrival is a message whose sender waits for the answer.
type arrival struct {
	id        uuid.UUID
	operation string
	file      sdi.FileSdI
	sum       [32]byte
	at        time.Time
	saved     chan error
}

// receive takes one callback in: the raw bytes are committed before SdI gets its answer, since SdI
// forgets the message on success. Nothing is understood here, so nothing can be refused for its content.
// Messages that come at the same time share a commit.
func (s *Service) receive(r *http.Request, op sdi.Operation, file sdi.FileSdI) error {
	ctx := r.Context()
	id, err := pg.NewID()
	if err != nil {
		return err
	}
	a := &arrival{id: id, operation: op.String(), file: file, sum: sha256.Sum256(file.File), at: pg.Time(s.now()), saved: make(chan error, 1)}
	select {
	case s.arrivals <- a:
		select {
		case err = <-a.saved:
		case <-ctx.Done():
			err = ctx.Err()
		}
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		s.log.ErrorContext(ctx, "a message of SdI was not taken in; SdI will send it again", "operation", op.String(),
			"sdi_id", file.IdentificativoSdI, "error", err)
		return &sdi.Fault{Code: "Server", String: "the message could not be stored, send it again"}
	}
	return nil
}

// saveArrivals commits what has arrived, and what arrives meanwhile next, until closed.
func (s *Service) saveArrivals(ctx context.Context, closed <-chan struct{}) {
	busy := false
	for {
		var batch []*arrival
		select {
		case <-closed:
			return
		case a := <-s.arrivals:
			batch = append(batch, a)
		}
		for enough := time.After(gather); len(batch) < savedTogether; {
			select {
			case a := <-s.arrivals:
				batch = append(batch, a)
				continue
			default:
			}
			if !busy {
				break
			}
			select {
			case a := <-s.arrivals:
				batch = append(batch, a)
			case <-time.After(lull):
				busy = false
			case <-enough:
				busy = false
			}
		}
		busy = len(batch) > 1
		for len(batch) > 0 {
			batch = s.saveBatch(ctx, batch)
		}
	}
}

// saveBatch commits a batch and answers each of it; repeats within it are left for another.
func (s *Service) saveBatch(ctx context.Context, batch []*arrival) (rest []*arrival) {
	slices.SortStableFunc(batch, func(a, b *arrival) int { // one order for all who lock rows
		return cmp.Or(cmp.Compare(a.file.IdentificativoSdI, b.file.IdentificativoSdI), cmp.Compare(a.file.NomeFile, b.file.NomeFile), bytes.Compare(a.sum[:], b.sum[:]))
	})
	var once []*arrival
	for i, a := range batch {
		if i > 0 && a.file.IdentificativoSdI == batch[i-1].file.IdentificativoSdI && a.file.NomeFile == batch[i-1].file.NomeFile && a.sum == batch[i-1].sum {
			rest = append(rest, a)
			continue
		}
		once = append(once, a)
	}
	err := s.save(ctx, once)
	for _, a := range once {
		if err != nil && len(once) > 1 {
			a.saved <- s.save(ctx, []*arrival{a}) // what is wrong with one is not the others' trouble
			continue
		}
		a.saved <- err
	}
	return rest
}

// save is one transaction: the messages as they came, and the promise to read them.
func (s *Service) save(ctx context.Context, batch []*arrival) error {
	ctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	var p db.SaveMessagesParams
	for _, a := range batch {
		p.Ids, p.Operations, p.FileNames = append(p.Ids, a.id), append(p.Operations, a.operation), append(p.FileNames, a.file.NomeFile)
		p.SdiIds, p.Hashes, p.Raws = append(p.SdiIds, a.file.IdentificativoSdI), append(p.Hashes, a.sum[:]), append(p.Raws, a.file.File)
		p.ReceivedAts = append(p.ReceivedAts, a.at)
	}
	return s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		saved, err := db.New(tx).SaveMessages(ctx, p)
		if err != nil {
			return err
		}
		if len(saved) != len(batch) {
			return errors.New("sdi-gateway: not every message was saved")
		}
		var first []uuid.UUID
		for _, m := range saved {
			if m.First {
				first = append(first, m.ID)
			}
		}
		switch len(first) {
		case 0:
			return nil
		case 1:
			return s.jobs.InsertTx(ctx, tx, readArgs{Message: first[0]}, nil)
		}
		return s.jobs.InsertTx(ctx, tx, readManyArgs{Messages: first}, nil)
	})
}
