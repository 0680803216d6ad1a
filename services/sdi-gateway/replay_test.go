package sdigateway

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/sdi-gateway/internal/db"
)

// notifications are the official and field messages; they are not part of the project.
var notifications = filepath.Join("..", "..", "..", "shared", "reference", "sdi", "notifications")

// Every message that is known is taken as the gateway takes it: those of the transmitter's flow move a state,
// the receiver's are said to be no business of a transmitter, and each signature has its verdict.
func TestReplayOfEveryMessage(t *testing.T) {
	var files []string
	for _, pattern := range []string{filepath.Join("..", "format", "sdi", "testdata", "messages", "*.xml"), filepath.Join(notifications, "*", "*_*_*.xml"), filepath.Join(notifications, "*", "*.zip")} {
		found, err := filepath.Glob(pattern)
		require.NoError(t, err)
		files = append(files, found...)
	}
	require.NotEmpty(t, files)
	states, seals, types := map[string]int{}, map[string]int{}, map[sdi.MessageType]bool{}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		require.NoError(t, err)
		r := reading{ReadMessagesRow: db.ReadMessagesRow{ID: uuid.New(), FileName: filepath.Base(file), Raw: raw}}
		r.parse()
		require.NotNil(t, r.message, file)
		kind := r.message.Type()
		types[kind] = true
		seal := checkSeal(r.message, nil, time.Now())
		require.NotEqual(t, "UNREADABLE", seal.Verdict, "%s: %v", file, seal.Findings)
		seals[seal.Verdict]++
		if kind == sdi.MT || kind == sdi.EC || kind == sdi.SE {
			require.NotNil(t, r.fault, file)
			require.Equal(t, "SDI_MESSAGE_UNEXPECTED", r.fault.Code)
			continue
		}
		require.Nil(t, r.fault, file)
		require.NotZero(t, r.fact, file)
		format := formatPublic
		if r.message.Schema == sdi.SchemaPrivati {
			format = "FPR12"
		}
		require.Empty(t, contradiction(format, r.fact), file)
		states[stateOf(format, factSent|r.fact)]++
		require.NotEmpty(t, r.fileKey(), "the file that it is about can be found by name")
	}
	require.Len(t, types, 9, "every type: %v", types)
	for _, state := range []string{stateRejected, stateDelivered, stateAvailable, statePending, stateTermExpired, stateAttested} {
		require.NotZero(t, states[state], state)
	}
	t.Logf("%d messages; states %v, signatures %v", len(files), states, seals)
}

// The hash that a receipt states is compared with the file that was sent: official receipts and the hashes
// published beside them agree where they are there; our own are compared always.
func TestHashIsCompared(t *testing.T) {
	files := map[string]string{filepath.Join("..", "format", "sdi", "testdata", "messages", "pr_rc.xml"): ""}
	published, err := os.ReadFile(filepath.Join(notifications, "official_b2b", "Hash_00022.txt"))
	if err != nil {
		t.Logf("official receipts are not there: %v", err)
	} else {
		for _, kind := range []string{"RC", "NS", "MC"} {
			files[filepath.Join(notifications, "official_b2b", "ITHVQWPH73P42H501Y_00022_"+kind+"_001.xml")] = strings.TrimSpace(string(published))
		}
	}
	for file, hash := range files {
		raw, err := os.ReadFile(file)
		require.NoError(t, err)
		r := reading{ReadMessagesRow: db.ReadMessagesRow{ID: uuid.New(), FileName: filepath.Base(file), Raw: raw}}
		r.parse()
		require.Nil(t, r.fault, file)
		if hash == "" {
			hash = r.message.Head().Hash
		}
		sum, err := hex.DecodeString(hash)
		require.NoError(t, err)
		require.Len(t, sum, 32)
		r.judge(map[uuid.UUID]db.MatchTransmissionsRow{r.ID: {FileSha256: sum}})
		require.Empty(t, r.problem, file)
		sum[0] ^= 1
		r.judge(map[uuid.UUID]db.MatchTransmissionsRow{r.ID: {FileSha256: sum}})
		require.Contains(t, r.problem, "SDI_HASH_MISMATCH", file)
	}
}
