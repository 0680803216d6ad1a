package pecgateway

import (
	"context"
	"encoding/hex"
	"io"
	"net"

	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/pec-gateway/internal/db"
	"ceralacca.dev/services/pec-gateway/internal/pop3"
)

// popFolder is the one folder that POP3 has, as locations name it.
const popFolder = "INBOX"

// overPOP3 reads what is not known yet. Nothing is deleted. A unique id that is known is not fetched
// again; without unique ids everything is, and what is known by its bytes is not received twice.
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
	known, err := v.knownUIDs(ctx)
	if err != nil {
		return err
	}
	if v.box.SyncEndTime == nil {
		err = v.foundSoMany(ctx, int64(len(list)))
		if err != nil {
			return err
		}
	}
	err = v.retrieve(ctx, c, list, known)
	if err != nil {
		return err
	}
	err = c.Quit()
	if err != nil {
		return err
	}
	return v.good(ctx)
}

func (v *visit) knownUIDs(ctx context.Context) (map[string]bool, error) {
	known := map[string]bool{}
	err := v.s.db.Tx(ctx, v.box.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		uids, err := q(tx).KnownUIDs(ctx, db.KnownUIDsParams{TenantID: v.box.TenantID, MailboxID: v.box.ID, Folder: popFolder})
		for _, u := range uids {
			known[u] = true
		}
		return err
	})
	return known, err
}

// retrieve takes in what is new. Two messages of one session under one id are both fetched: ids are
// reused by servers that are not careful.
func (v *visit) retrieve(ctx context.Context, c *pop3.Client, list []pop3.Entry, known map[string]bool) error {
	times := map[string]int{}
	for _, e := range list {
		times[e.UID]++
	}
	items, size := []*found{}, int64(0)
	flush := func() error {
		if len(items) == 0 {
			return nil
		}
		err := v.receive(ctx, place{folder: popFolder, shown: popFolder}, items)
		for _, f := range items {
			f.sp.close()
		}
		items, size = items[:0], 0
		return err
	}
	for _, e := range list {
		if e.UID != "" && known[e.UID] && times[e.UID] == 1 {
			continue
		}
		var sp *spool
		err := c.Retrieve(e.Number, func(r io.Reader) (err error) {
			sp, err = newSpool(r)
			return err
		})
		if err != nil {
			sp.close()
			for _, f := range items {
				f.sp.close()
			}
			return err
		}
		uid := e.UID
		if uid == "" || times[uid] > 1 {
			sum, err := sp.sum()
			if err != nil {
				return err
			}
			uid = or(uid+":", "") + hex.EncodeToString(sum)
		}
		items = append(items, &found{uid: uid, sp: sp})
		size += sp.size
		if len(items) >= batchMessages || size >= batchBytes {
			err = flush()
			if err != nil {
				return err
			}
		}
	}
	return flush()
}
