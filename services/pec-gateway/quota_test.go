package pecgateway

import (
	"testing"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
)

// TestB13QuotaLevels: each level once, left only some points below it; what the provider does not say is unknown.
func TestB13QuotaLevels(t *testing.T) {
	const (
		unknown, good = pecv1.QuotaLevel_QUOTA_LEVEL_UNSPECIFIED, pecv1.QuotaLevel_QUOTA_LEVEL_GOOD
		warning       = pecv1.QuotaLevel_QUOTA_LEVEL_WARNING
		critical      = pecv1.QuotaLevel_QUOTA_LEVEL_CRITICAL
		full          = pecv1.QuotaLevel_QUOTA_LEVEL_FULL
	)
	level := unknown
	for _, step := range []struct {
		used, limit int64
		want        pecv1.QuotaLevel
	}{
		{5, 0, unknown}, {69, 100, good}, {70, 100, warning}, {68, 100, warning}, {67, 100, warning}, {66, 100, good}, {69, 100, good},
		{90, 100, critical}, {88, 100, critical}, {86, 100, warning}, {100, 100, full}, {120, 100, full}, {98, 100, full}, {96, 100, critical}, {0, 100, good},
	} {
		level = quotaLevel(step.used, step.limit, level)
		if level != step.want {
			t.Fatalf("%d of %d: %s, want %s", step.used, step.limit, level, step.want)
		}
	}
}
