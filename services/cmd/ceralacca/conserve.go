package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/format/custody"
	"ceralacca.dev/services/format/tlog"
	"ceralacca.dev/services/internal/fault"
)

func (c *cli) evidence() (conservationv1.EvidenceServiceClient, error) {
	conn, err := c.dial()
	return conservationv1.NewEvidenceServiceClient(conn), err
}

func (c *cli) conserveCommand() *cobra.Command {
	return group("conserve", "Evidence of what is in custody: receipts, checkpoints, and their check offline",
		c.conserveVerifyCommand(), c.receiptCommand(), c.checkpointCommand(), c.checkpointsCommand(), c.logCommand(), c.monitorCommand(), c.evidenceCommand(), c.storageCommand(), c.damagesCommand(),
		c.checkArchiveCommand(), c.reportsCommand(), c.reportCommand(), c.deadlinesCommand(), c.fiscalYearCommand(),
		c.conserveMailDays(), c.searchCommand(), c.searchRebuildCommand(), c.exhibitCommand(), c.distributionsCommand(), c.integrityCommand(), c.inspectorCommand(), c.visitCommand(),
		c.depositUploadCommand(), c.importPackageCommand(), c.depositsCommand(), c.rdvCommand(), c.submissionsCommand(), c.statementCommand(), c.conflictsCommand(), c.resolveCommand(), c.formatsCommand(),
		c.closePackageCommand(), c.retentionCommand(), c.holdCommand(), c.scartoCommand(), c.exportArchiveCommand(), c.exportsCommand())
}

func (c *cli) receiptCommand() *cobra.Command {
	var output, pkg string
	var latest bool
	var revision int32
	cmd := verb("receipt UNIT", "Write the receipt of a unit, or of a package with --package: keep it where the platform does not reach", args("[UNIT]"), func(ctx context.Context, given []string) error {
		if (pkg == "") == (len(given) == 0) {
			return usage("one of UNIT and --package is wanted: ceralacca conserve receipt UNIT -o FILE")
		}
		api, err := c.evidence()
		if err != nil {
			return err
		}
		var r *conservationv1.Receipt
		if pkg != "" {
			name, err := c.within("packages", pkg)
			if err != nil {
				return err
			}
			r, err = api.GetPackageReceipt(ctx, &conservationv1.GetPackageReceiptRequest{Name: name, Latest: latest})
			if err != nil {
				return err
			}
		} else {
			name, err := c.within("units", given[0])
			if err != nil {
				return err
			}
			r, err = api.GetUnitReceipt(ctx, &conservationv1.GetUnitReceiptRequest{Name: name, Revision: revision, Latest: latest})
			if err != nil {
				return err
			}
		}
		if output == "" && c.format == formatText {
			_, err = c.out.Write(r.GetReceipt())
			return err
		}
		err = keep(output, r.GetReceipt())
		if err != nil {
			return err
		}
		return c.print(r, func() {
			c.fields("name", r.GetName(), "written", output, "index", fmt.Sprint(r.GetIndex()), "tenant sequence", r.GetTenantSequence(), "revision", r.GetRevision(),
				"log size", r.GetCheckpointSize(), "stamped", when(r.GetStampTime()))
		})
	})
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to write; standard output when empty")
	cmd.Flags().StringVar(&pkg, "package", "", "the receipt of this package")
	cmd.Flags().BoolVar(&latest, "latest", false, "against the last checkpoint, also when a stamped one has the leaf")
	cmd.Flags().Int32Var(&revision, "revision", 0, "1 is the taking in charge, each later receipt that joined the unit counts one more; the last when 0")
	return cmd
}

func (c *cli) logCommand() *cobra.Command {
	var output string
	cmd := verb("log", "The name and the public key of the log: to be kept from the first day", args(), func(ctx context.Context, _ []string) error {
		api, err := c.evidence()
		if err != nil {
			return err
		}
		l, err := api.GetLog(ctx, &conservationv1.GetLogRequest{})
		if err != nil {
			return err
		}
		list := append([]string{l.GetVerifierKey()}, l.GetFormerKeys()...)
		for _, w := range l.GetWitnesses() {
			list = append(list, w.GetVerifierKey())
		}
		keys := strings.Join(list, "\n") + "\n"
		err = keep(output, []byte(keys))
		if err != nil {
			return err
		}
		return c.print(l, func() {
			c.fields("origin", l.GetOrigin(), "key", l.GetVerifierKey(), "former keys", strings.Join(l.GetFormerKeys(), " "), "size", l.GetSize(), "written", output,
				"cosigned by", fmt.Sprintf("%d of %d witnesses wanted", l.GetQuorum(), len(l.GetWitnesses())), "cosigned size", l.GetCosignedSize(), "without a quorum since", when(l.GetUnwitnessedSince()))
			for _, w := range l.GetWitnesses() {
				c.fields("witness", w.GetName(), "key", w.GetVerifierKey(), "size", w.GetSize(), "cosigned", when(w.GetCosignTime()), "trouble", w.GetTrouble())
			}
		})
	})
	cmd.Flags().StringVarP(&output, "output", "o", "", "file for the keys of the log and of its witnesses, as --log-key reads it; compare the latter with the witnesses' own word")
	return cmd
}

// logPolicy reads verifier keys: one itself, or a file with one on each line.
func (c *cli) logPolicy(given string) (tlog.Policy, error) {
	text := given
	if strings.Count(given, "+") < 2 {
		raw, err := c.readFlag("--log-key", given, largestText)
		if err != nil {
			return tlog.Policy{}, usage("%v; ceralacca conserve log -o FILE writes one", err)
		}
		text = string(raw)
	}
	p := tlog.Policy{}
	for _, line := range strings.Fields(text) {
		v, err := tlog.ParseVerifier(line)
		if err != nil {
			return p, usage("--log-key: %v; ceralacca conserve log -o FILE writes the keys of a log", err)
		}
		if v.Cosigner() {
			p.Witnesses = append(p.Witnesses, v)
			continue
		}
		p.Origin, p.LogKeys = v.Name(), append(p.LogKeys, v)
	}
	if p.Origin == "" {
		return p, usage("--log-key: %s holds no key", given)
	}
	return p, nil
}

func (c *cli) checkpointsCommand() *cobra.Command {
	var stamped bool
	cmd := c.lister(verb("checkpoints", "What the log stated, newest first: the sizes that conserve checkpoint --size writes", args(), func(ctx context.Context, _ []string) error {
		api, err := c.evidence()
		if err != nil {
			return err
		}
		page, err := collect(c, func(token string, size int32) (*conservationv1.ListCheckpointsResponse, error) {
			return api.ListCheckpoints(ctx, &conservationv1.ListCheckpointsRequest{Stamped: stamped, PageSize: size, PageToken: token})
		})
		if err != nil {
			return err
		}
		return c.print(page, func() {
			var rows [][]string
			for _, p := range page.GetCheckpoints() {
				rows = append(rows, []string{fmt.Sprint(p.GetSize()), when(p.GetSignTime()), when(p.GetStampTime()), p.GetStampAuthority(), when(p.GetNewestStampTime()), strings.Join(p.GetWitnesses(), " ")})
			}
			c.table([]string{"SIZE", "SIGNED", "STAMPED", "BY", "AGAIN", "WITNESSES"}, rows)
		})
	}))
	cmd.Flags().BoolVar(&stamped, "stamped", false, "only those with a time stamp, one a day")
	return cmd
}

func (c *cli) checkpointCommand() *cobra.Command {
	var output, since, key string
	var size int64
	cmd := verb("checkpoint", "What the log states now; with --since, whether it only grew since an earlier checkpoint", args(), func(ctx context.Context, _ []string) error {
		api, err := c.evidence()
		if err != nil {
			return err
		}
		point, err := api.GetCheckpoint(ctx, &conservationv1.GetCheckpointRequest{Size: size})
		if err != nil {
			return err
		}
		content := point.GetNote()
		var report *custody.Report
		if since != "" {
			content, report, err = c.compareCheckpoints(ctx, api, point, since, key)
			if err != nil {
				return err
			}
		}
		err = keep(output, content)
		if err != nil {
			return err
		}
		if report != nil {
			return c.verdict(report, "")
		}
		return c.print(point, func() {
			if output == "" {
				fmt.Fprint(c.out, string(content))
				return
			}
			c.fields("size", point.GetSize(), "signed", when(point.GetSignTime()), "stamped", when(point.GetStampTime()), "by", point.GetStampAuthority(), "again", when(point.GetNewestStampTime()), "written", output)
		})
	})
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to write; with --since it holds the proof too")
	cmd.Flags().StringVar(&since, "since", "", "file of a checkpoint that was kept")
	cmd.Flags().StringVar(&key, "log-key", "", "key of the log, or a file with it; needed with --since")
	cmd.Flags().Int64Var(&size, "size", 0, "the checkpoint of this size; the last when 0")
	return cmd
}

// compareCheckpoints judges what the server states now by what was kept. The content is the new checkpoint
// with its proof.
func (c *cli) compareCheckpoints(ctx context.Context, api conservationv1.EvidenceServiceClient, point *conservationv1.Checkpoint, since, key string) ([]byte, *custody.Report, error) {
	if key == "" {
		return nil, nil, usage("--since needs --log-key: the key that was kept, not the one that the server names today")
	}
	policy, err := c.logPolicy(key)
	if err != nil {
		return nil, nil, err
	}
	old, err := c.readSeen(since)
	if err != nil {
		return nil, nil, err
	}
	kept, err := tlog.OpenCheckpoint(old.Note, policy)
	if err != nil {
		return nil, nil, usage("--since: %v", err)
	}
	got := custody.Seen{Name: "the server's checkpoint", Note: point.GetNote(), Old: kept.Size}
	request := tlog.Request{Old: kept.Size, Checkpoint: point.GetNote()}
	if kept.Size < point.GetSize() {
		answer, err := api.GetConsistencyProof(ctx, &conservationv1.GetConsistencyProofRequest{OldSize: kept.Size, Size: point.GetSize()})
		if err != nil {
			return nil, nil, err
		}
		for _, h := range answer.GetHashes() {
			if len(h) != tlog.HashSize {
				return nil, nil, fault.Internal("ANSWER_MALFORMED", "the server's proof has a hash of %d bytes", len(h))
			}
			request.Proof = append(request.Proof, tlog.Hash(h))
		}
		got.Proof = append([]tlog.Hash{}, request.Proof...)
	}
	old.Proof = nil
	report, err := custody.Verify(custody.Input{Checkpoints: []custody.Seen{old, got}, Policy: policy})
	return request.Marshal(), report, err
}

func (c *cli) readSeen(file string) (custody.Seen, error) {
	raw, err := c.readUpTo(file, 1<<20)
	if err != nil {
		return custody.Seen{}, err
	}
	seen, err := custody.ParseSeen(filepath.Base(file), raw)
	if err != nil {
		return seen, usage("%v", err)
	}
	return seen, nil
}
