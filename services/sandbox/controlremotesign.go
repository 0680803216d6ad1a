package sandbox

import (
	"net/http"

	"ceralacca.dev/services/sandbox/client"
)

// The paths are those of the real services.
const (
	arssPath = "/ArubaSignService/ArubaSignService"
	swsPath  = "/SignEngineWeb/sign-services"
	csc1Path = "/csc/v1/"
)

// controlRemoteSign is the part of the control API about remote signatures.
func (s *Server) controlRemoteSign(handle func(pattern string, fn func(r *http.Request) (any, error))) {
	handle("POST /v1/remotesign/holders", func(r *http.Request) (any, error) {
		var in client.RemoteHolderRequest
		if err := decode(r, &in); err != nil {
			return nil, err
		}
		h, err := s.remote.Enrol(in)
		if err != nil {
			return nil, bad(err)
		}
		return h, nil
	})
	handle("GET /v1/remotesign/holders/{user}", func(r *http.Request) (any, error) {
		h, err := s.remote.Holder(r.PathValue("user"))
		if err != nil {
			return nil, &apiError{http.StatusNotFound, err.Error()}
		}
		return h, nil
	})
	handle("POST /v1/remotesign/holders/{user}/otp", func(r *http.Request) (any, error) {
		o, err := s.remote.OTP(r.PathValue("user"), r.URL.Query().Get("kind"))
		if err != nil {
			return nil, &apiError{http.StatusNotFound, err.Error()}
		}
		return o, nil
	})
	handle("POST /v1/remotesign/holders/{user}/end", func(r *http.Request) (any, error) {
		s.remote.EndSessions(r.PathValue("user"))
		return nil, nil
	})
	handle("POST /v1/remotesign/faults", func(r *http.Request) (any, error) {
		var in client.RemoteFault
		if err := decode(r, &in); err != nil {
			return nil, err
		}
		if err := s.remote.AddFault(in); err != nil {
			return nil, bad(err)
		}
		return nil, nil
	})
	handle("DELETE /v1/remotesign/faults", func(*http.Request) (any, error) {
		s.remote.ClearFaults()
		return nil, nil
	})
}
