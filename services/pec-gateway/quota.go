package pecgateway

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/pec-gateway/internal/db"
	"ceralacca.dev/services/pec-gateway/internal/imap"
	"ceralacca.dev/services/pec-gateway/internal/pop3"
)

// hysteresis is how many percentage points a mailbox has to sink below a level before it leaves it, so
// that one that hovers there is told about once.
const hysteresis = 3

// quotaLevel is the level of so much room used. A limit of 0 is unknown, which is not good.
func quotaLevel(used, limit int64, before pecv1.QuotaLevel) pecv1.QuotaLevel {
	if limit <= 0 {
		return pecv1.QuotaLevel_QUOTA_LEVEL_UNSPECIFIED
	}
	level := pecv1.QuotaLevel_QUOTA_LEVEL_GOOD
	for _, step := range []struct {
		percent int64
		level   pecv1.QuotaLevel
	}{
		{70, pecv1.QuotaLevel_QUOTA_LEVEL_WARNING}, {90, pecv1.QuotaLevel_QUOTA_LEVEL_CRITICAL}, {100, pecv1.QuotaLevel_QUOTA_LEVEL_FULL},
	} {
		percent := step.percent
		if before >= step.level {
			percent -= hysteresis
		}
		if used*100 >= limit*percent {
			level = step.level
		}
	}
	return level
}

// isPOP3 says whether a mailbox is read over POP3.
func isPOP3(row db.Mailbox) bool {
	return row.Access == int16(pecv1.MailboxAccess_MAILBOX_ACCESS_POP3)
}

// quota looks how much room there is, as the server says.
func (v *visit) quota(ctx context.Context, c *imap.Client) error {
	used, limit, known, err := c.Quota()
	if err != nil {
		return err
	}
	if !known {
		used, limit = 0, 0
	}
	return v.recordRoom(ctx, used, limit, "")
}

// computedRoom adds up what a POP3 server lists, which has no word for room: STAT gives the same sum. What the mailbox may
// hold is what its owner told of the contract. Other folders than the one that POP3 has are not counted.
// spec: RFC1939 §5 (STAT, LIST)
func (v *visit) computedRoom(ctx context.Context, list []pop3.Entry) error {
	used := int64(0)
	for _, e := range list {
		used += e.Size
	}
	return v.recordRoom(ctx, used, v.box.Capacity, ", computed from what its POP3 server lists and the capacity that was told")
}

// recordRoom keeps how much room there is, and tells when a level is reached.
func (v *visit) recordRoom(ctx context.Context, used, limit int64, how string) error {
	before := pecv1.QuotaLevel(v.box.QuotaLevel)
	level := quotaLevel(used, limit, before)
	if used == v.box.QuotaUsed && limit == v.box.QuotaLimit && level == before {
		return nil
	}
	v.box.QuotaUsed, v.box.QuotaLimit, v.box.QuotaLevel = used, limit, int16(level)
	return v.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		err := q(tx).RecordQuota(ctx, db.RecordQuotaParams{TenantID: v.box.TenantID, ID: v.box.ID, Fence: v.box.Fence, Used: used, QuotaLimit: limit, Level: int16(level)})
		if err != nil || level <= before || level < pecv1.QuotaLevel_QUOTA_LEVEL_WARNING {
			return err
		}
		return v.tell(ctx, tx, "MAILBOX_QUOTA", fmt.Sprintf("%d %% of its room is used (%d of %d bytes%s)", used*100/limit, used, limit, how))
	})
}
