package pecgateway

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/pec-gateway/internal/db"
	"ceralacca.dev/services/pec-gateway/internal/imap"
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

// quota looks how much room there is, and tells when a level is reached.
func (v *visit) quota(ctx context.Context, c *imap.Client) error {
	used, limit, known, err := c.Quota()
	if err != nil {
		return err
	}
	if !known {
		used, limit = 0, 0
	}
	before := pecv1.QuotaLevel(v.box.QuotaLevel)
	level := quotaLevel(used, limit, before)
	if used == v.box.QuotaUsed && limit == v.box.QuotaLimit && level == before {
		return nil
	}
	v.box.QuotaUsed, v.box.QuotaLimit, v.box.QuotaLevel = used, limit, int16(level)
	return v.s.db.Tx(ctx, v.box.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		err := q(tx).RecordQuota(ctx, db.RecordQuotaParams{TenantID: v.box.TenantID, ID: v.box.ID, Fence: v.box.Fence, Used: used, QuotaLimit: limit, Level: int16(level)})
		if err != nil || level <= before || level < pecv1.QuotaLevel_QUOTA_LEVEL_WARNING {
			return err
		}
		return v.tell(ctx, tx, "MAILBOX_QUOTA", fmt.Sprintf("%d %% of its room is used (%d of %d bytes)", used*100/limit, used, limit))
	})
}
