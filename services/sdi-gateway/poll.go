package sdigateway

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/sdi-gateway/internal/db"
)

// rereadMost bounds the supports that one poll looks at again.
const rereadMost = 1000

// TriggerPoll looks now at everything that is otherwise looked at in turns. It repeats nothing that may be at SdI:
// leases and waits of calls with an unknown outcome hold all the same.
func (s *Service) TriggerPoll(ctx context.Context, _ *sdiv1.TriggerPollRequest) (*sdiv1.TriggerPollResponse, error) {
	out := &sdiv1.TriggerPollResponse{}
	for {
		told, err := s.tellTerms(ctx)
		if err != nil {
			return nil, err
		}
		answers, err := s.tellAnswers(ctx)
		if err != nil {
			return nil, err
		}
		out.TermsTold += int32(told + answers) //nolint:gosec // at most 400 a turn
		if told < termsTogether && answers < termsTogether {
			break
		}
	}
	err := s.judgeChannels(ctx)
	if err != nil {
		return nil, err
	}
	ready, err := s.look(ctx)
	if err != nil {
		return nil, err
	}
	out.DrainersWoken = int32(min(ready, drainers)) //nolint:gosec // a handful
	s.lookAgain()
	if s.ftp != nil {
		err = s.pollSupports(ctx, out)
		if err != nil {
			return nil, err
		}
	}
	return out, s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		return telemetry.Audit(ctx, tx, telemetry.Act{Action: "sdi.poll", Resource: "transmitters/" + s.cfg.Transmitter, Detail: map[string]string{
			"terms": fmt.Sprint(out.GetTermsTold()), "supports_gathered": fmt.Sprint(out.GetSupportsGathered()), "supports_reread": fmt.Sprint(out.GetSupportsReread()),
		}})
	})
}

// pollSupports gathers what waits at once, and tries again what supports of SdI brought.
func (s *Service) pollSupports(ctx context.Context, out *sdiv1.TriggerPollResponse) error {
	for {
		made, err := s.gather(ctx, 0)
		if err == nil && !made {
			made, err = s.gatherAnswers(ctx, 0)
		}
		if err != nil {
			return err
		}
		if !made {
			break
		}
		out.SupportsGathered++
	}
	return s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		left, err := db.New(tx).SupportsLeft(ctx, rereadMost)
		if err != nil {
			return err
		}
		for _, id := range left {
			err = s.jobs.InsertTx(pg.WithTenant(ctx, ""), tx, handArgs{Support: id}, nil)
			if err != nil {
				return err
			}
		}
		out.SupportsReread = int32(len(left)) //nolint:gosec // at most 1,000
		return nil
	})
}
