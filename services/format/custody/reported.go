package custody

import (
	"encoding/json"
	"time"
)

// ReportInvalid: a signed report of a check, of a destruction or on one document does not hold.
const ReportInvalid = "REPORT_INVALID"

// ReportKind says what a report of the archive is about, by its content; empty: it is none.
func ReportKind(content []byte) string {
	var head struct {
		Report, Kind, Disposal string
	}
	err := json.Unmarshal(content, &head)
	switch {
	case err != nil || head.Report == "":
		return ""
	case head.Disposal != "":
		return "of " + head.Disposal
	case head.Kind != "":
		return "of a check (" + head.Kind + ")"
	}
	return "(" + head.Report + ")"
}

// VerifyReport judges receipts and checkpoints as Verify does, and whether one of the receipts is of this signed file. stamped is when the
// log that has it was stamped; zero: it was not. Errors: those of Verify.
func VerifyReport(in Input, signed [32]byte) (r *Report, stamped time.Time, err error) {
	r, err = Verify(in)
	if err != nil {
		return nil, stamped, err
	}
	for _, f := range (&Report{}).facts(in) {
		if f.leaf.Type == Reported && len(f.leaf.Objects) == 2 && f.leaf.Objects[1] == signed {
			r.holds("the signed report is leaf %d of its owner in the log", f.leaf.Seq)
			return r, f.stamped, nil
		}
	}
	if len(in.Receipts) > 0 {
		r.bad(ReceiptElsewhere, in.Receipts[0].Name, "no receipt is of this report: it was changed, or they are of something else")
	}
	return r, stamped, nil
}
