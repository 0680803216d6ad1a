package pecgateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/pec-gateway/internal/db"
	"ceralacca.dev/services/pec-gateway/internal/imap"
)

// Bounds of one look: a mailbox is not held up for long, and the next look goes on.
const (
	removeAtOnce  = 20  // messages of one STORE and EXPUNGE
	removeInALook = 200 // messages

	nothingToRemove = 10 * time.Minute // until it is looked again
	refusedRemoval  = 24 * time.Hour
)

// What a rule for room says when it does not say.
const (
	roomAt   = 90
	roomTo   = 70
	roomDays = 30
)

const codeNoRoom = "MAILBOX_ROOM_IMPOSSIBLE"

// checkRoom refuses a rule that cannot be carried out. Faults: Invalid ROOM_INVALID.
func checkRoom(r *pecv1.RoomRule) error {
	at, to, _ := roomOf(r)
	if to >= at {
		return fault.Invalid("ROOM_INVALID", "policy.room.to_percent: %d has to be less than at_percent, %d", to, at).
			WithField("policy.room.to_percent", "ROOM_INVALID", "is not less than at_percent")
	}
	return nil
}

func roomOf(r *pecv1.RoomRule) (at, to int64, age time.Duration) {
	at, to, days := int64(r.GetAtPercent()), int64(r.GetToPercent()), int64(r.GetKeepDays())
	if at == 0 {
		at = roomAt
	}
	if to == 0 {
		to = min(roomTo, at-1)
	}
	if days == 0 {
		days = roomDays
	}
	return at, to, time.Duration(days) * 24 * time.Hour
}

// roomPause is until when no room is made in a mailbox under a version of its policy: another rule counts at once.
type roomPause struct {
	version string
	until   time.Time
}

func (s *Service) roomWaits(mailbox uuid.UUID, version string) bool {
	p, ok := s.noRoom.Load(mailbox)
	return ok && p.(roomPause).version == version && s.now().Before(p.(roomPause).until) //nolint:forcetypeassert // ours
}

// removable is a message that may be removed at the provider.
type removable = db.RemovableMessagesRow

// makeRoom removes the oldest messages at the provider when the policy of the mailbox says so: those whose bytes the archive
// has and gives back, compared with what the provider has there at that moment. Each is noted before it is removed, so a
// crash leaves a row that says what was about to happen, and the next look ends it.
func (v *visit) makeRoom(ctx context.Context, c *imap.Client) error {
	var rule *pecv1.RoomRule
	var list []removable
	var version string
	full := false
	err := v.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		policy, err := policyOf(ctx, tx, v.box)
		rule, version = policy.GetRoom(), policy.GetEtag()
		if err != nil || v.s.roomWaits(v.box.ID, version) {
			return err
		}
		at, _, age := roomOf(rule)
		if !rule.GetEnabled() || v.box.QuotaLimit <= 0 || v.box.QuotaUsed*100 < v.box.QuotaLimit*at {
			return nil
		}
		full = true
		list, err = q(tx).RemovableMessages(ctx, db.RemovableMessagesParams{TenantID: v.box.TenantID, MailboxID: v.box.ID, Before: pg.Time(v.s.now().Add(-age)),
			PreservedOnly: rule.GetPreservedOnly(), Most: removeInALook})
		return err
	})
	if err != nil || !full {
		return err
	}
	if len(list) == 0 {
		v.s.noRoom.Store(v.box.ID, roomPause{version, v.s.now().Add(nothingToRemove)})
		return nil
	}
	if !c.CanRemove() {
		return v.tellNoRoom(ctx, version)
	}
	_, to, _ := roomOf(rule)
	over := v.box.QuotaUsed - v.box.QuotaLimit*to/100
	freed, removed := int64(0), 0
	for len(list) > 0 && over > freed {
		var some []removable
		some, list = nextOf(list, over-freed)
		done, err := v.remove(ctx, c, some)
		for _, m := range done {
			freed, removed = freed+m.Size, removed+1
		}
		if err != nil && !imap.Refused(err) {
			return err
		}
		if err != nil {
			v.s.log.WarnContext(ctx, "the provider refuses to remove messages", "mailbox", mailboxName(v.box.TenantID, v.box.ID), "folder", some[0].Folder, "error", err)
			list = slices.DeleteFunc(list, func(m removable) bool { return m.Folder == some[0].Folder })
			v.s.noRoom.Store(v.box.ID, roomPause{version, v.s.now().Add(refusedRemoval)})
		}
	}
	if removed > 0 {
		v.s.log.InfoContext(ctx, "room was made at the provider", "mailbox", mailboxName(v.box.TenantID, v.box.ID), "messages", removed, "bytes", freed)
	}
	_, err = c.Examine("INBOX") // where it waits for news
	return err
}

// nextOf takes the messages for one removal: of one folder, no more than are needed, in the order of the list.
func nextOf(list []removable, over int64) (some, rest []removable) {
	sum := int64(0)
	for _, m := range list {
		if len(some) < removeAtOnce && sum < over && (len(some) == 0 || m.Folder == some[0].Folder) {
			some, sum = append(some, m), sum+m.Size
			continue
		}
		rest = append(rest, m)
	}
	return some, rest
}

// tellNoRoom says, once a day, that the provider's server cannot remove single messages.
func (v *visit) tellNoRoom(ctx context.Context, version string) error {
	v.s.noRoom.Store(v.box.ID, roomPause{version, v.s.now().Add(refusedRemoval)})
	return v.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		return v.tell(ctx, tx, codeNoRoom, "the provider's server cannot remove single messages (UIDPLUS): make room at the provider's own pages")
	})
}

// remove removes messages of one folder and gives those that are gone by it.
func (v *visit) remove(ctx context.Context, c *imap.Client, list []removable) ([]removable, error) {
	opened, err := c.Select(list[0].Folder)
	if err != nil {
		return nil, err
	}
	if int64(opened.UIDValidity) != list[0].UidValidity {
		return nil, nil // numbered anew since: the next look knows
	}
	err = v.intend(ctx, list)
	if err != nil {
		return nil, err
	}
	ends, err := v.compareHeld(ctx, c, list)
	if err != nil {
		return nil, err
	}
	var uids []uint32
	var done []removable
	for _, m := range list {
		if ends[m.Uid] == "" {
			uids = append(uids, number(m.Uid))
		}
	}
	err = c.Remove(uids)
	if err == nil && len(uids) > 0 {
		var left []uint32
		left, err = c.Held(uids)
		for _, m := range list {
			if err == nil && ends[m.Uid] == "" && !slices.Contains(left, number(m.Uid)) {
				ends[m.Uid] = "removed"
				done = append(done, m)
			}
		}
	}
	return done, errors.Join(v.recordRemovals(context.WithoutCancel(ctx), list, ends), err)
}

func number(uid string) uint32 {
	n, _ := strconv.ParseUint(uid, 10, 32) // 0 is no message's
	return uint32(n)
}

func (v *visit) intend(ctx context.Context, list []removable) error {
	p := db.IntendRemovalsParams{TenantID: v.box.TenantID, MailboxID: v.box.ID, Folder: list[0].Folder, UidValidity: list[0].UidValidity, Now: pg.Time(v.s.now())}
	for _, m := range list {
		p.Uids, p.MessageIds, p.Sizes = append(p.Uids, m.Uid), append(p.MessageIds, m.ID), append(p.Sizes, m.Size)
	}
	return v.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		err := v.hold(ctx, tx)
		if err != nil {
			return err
		}
		return q(tx).IntendRemovals(ctx, p)
	})
}

// compareHeld says of which messages nothing is removed, and why: the provider does not have them any more, has other bytes
// there, or the archive does not give back what it should.
func (v *visit) compareHeld(ctx context.Context, c *imap.Client, list []removable) (map[string]string, error) {
	uids := make([]uint32, len(list))
	for i, m := range list {
		uids[i] = number(m.Uid)
	}
	sums := map[string][]byte{}
	var sum []byte
	err := c.Fetch(uids, func(_ int64, r io.Reader) error {
		h := sha256.New()
		_, err := io.Copy(h, r)
		sum = h.Sum(nil)
		return err
	}, func(m imap.Message) error {
		sums[strconv.FormatUint(uint64(m.UID), 10)] = sum
		return nil
	})
	if err != nil {
		return nil, err
	}
	ends := map[string]string{}
	for _, m := range list {
		switch {
		case sums[m.Uid] == nil:
			ends[m.Uid] = "gone"
		case !bytes.Equal(sums[m.Uid], m.Sha256):
			ends[m.Uid] = "differs"
		default:
			damaged, err := v.s.readOne(ctx, db.MessagesToReadRow{TenantID: v.box.TenantID, MailboxID: v.box.ID, ID: m.ID, ContentUri: m.ContentUri})
			if err != nil {
				return nil, err // of the store as a whole too: nothing is removed while it is away
			}
			if damaged {
				ends[m.Uid] = "kept"
			}
		}
	}
	return ends, nil
}

// checkKept reads a message from the archive to its end, which holds its bytes to their hash.
func (s *Service) checkKept(ctx context.Context, uri string) error {
	ref, err := blob.ParseURI(uri)
	if err != nil {
		return err
	}
	r, err := s.blobs.Open(ctx, ref)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(io.Discard, r)
	return err
}

// recordRemovals ends what was intended; what has no end is tried again.
func (v *visit) recordRemovals(ctx context.Context, list []removable, ends map[string]string) error {
	name := mailboxName(v.box.TenantID, v.box.ID)
	return v.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		count := map[string]string{"folder": list[0].Folder}
		for _, outcome := range []string{"removed", "gone", "differs", "kept"} {
			p := db.EndRemovalsParams{TenantID: v.box.TenantID, MailboxID: v.box.ID, Folder: list[0].Folder, UidValidity: list[0].UidValidity, Outcome: outcome, Now: pg.Time(v.s.now())}
			for _, m := range list {
				if ends[m.Uid] == outcome {
					p.Uids = append(p.Uids, m.Uid)
				}
			}
			if len(p.Uids) == 0 {
				continue
			}
			count[outcome] = strconv.Itoa(len(p.Uids))
			err := q(tx).EndRemovals(ctx, p)
			if err != nil {
				return err
			}
		}
		if len(count) == 1 {
			return nil
		}
		return telemetry.Audit(telemetry.WithActor(ctx, actor), tx, telemetry.Act{Action: "mailbox.room", Resource: name, Detail: count})
	})
}

// removedAt says when a message was removed at the provider; nil when it was not.
func removedAt(ctx context.Context, tx pgx.Tx, row db.Message) (*timestamppb.Timestamp, error) {
	at, err := q(tx).RemovedAt(ctx, db.RemovedAtParams{TenantID: row.TenantID, MessageID: row.ID})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil //nolint:nilnil // the contract has none then
	}
	return timestamppb.New(at), err
}
