package witness

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"ceralacca.dev/services/format/tlog"
)

// Client asks one witness.
type Client struct {
	URL  string // the submission prefix, without add-checkpoint
	Key  *tlog.Verifier
	HTTP *http.Client
}

// Ask gives the witness's cosignature line over the checkpoint of the request, verified. Errors:
// *tlog.WitnessError when it answered and did not cosign (409 with the size that it has); others when it
// did not answer, or not well. spec: C2SP-witness §add-checkpoint
func (c *Client) Ask(ctx context.Context, r *tlog.Request) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(c.URL, "/")+addPath, bytes.NewReader(r.Marshal()))
	if err != nil {
		return nil, fmt.Errorf("witness: %s: %w", c.Key.Name(), err)
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return nil, fmt.Errorf("witness: %s: %w", c.Key.Name(), err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return nil, fmt.Errorf("witness: %s: %w", c.Key.Name(), err)
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return c.own(r.Checkpoint, body)
	case http.StatusConflict:
		size, err := strconv.ParseInt(strings.TrimSuffix(string(body), "\n"), 10, 64)
		if err != nil || size < 0 || resp.Header.Get("Content-Type") != sizeType {
			return nil, fmt.Errorf("witness: %s: 409 without a size: %.80q", c.Key.Name(), body)
		}
		return nil, &tlog.WitnessError{Status: resp.StatusCode, Size: size, Reason: fmt.Sprintf("%s has cosigned %d entries", c.Key.Name(), size)}
	}
	return nil, &tlog.WitnessError{Status: resp.StatusCode, Reason: fmt.Sprintf("%s: %.200s", c.Key.Name(), strings.TrimSpace(string(body)))}
}

// own picks the line of the key that is expected from the answer, which may have others.
func (c *Client) own(checkpoint, body []byte) ([]byte, error) {
	text, _, _ := bytes.Cut(checkpoint, []byte("\n\n"))
	origin, _, _ := strings.Cut(string(text), "\n")
	for line := range strings.Lines(string(body)) {
		note, err := tlog.AddSignatures(checkpoint, []byte(line))
		if err != nil {
			return nil, fmt.Errorf("witness: %s: its answer is no signature: %w", c.Key.Name(), err)
		}
		if tlog.Cosigned(note, origin, c.Key) {
			return []byte(line), nil
		}
	}
	return nil, fmt.Errorf("witness: %s: its answer has no cosignature of %s", c.Key.Name(), c.Key)
}
