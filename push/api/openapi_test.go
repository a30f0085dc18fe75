package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

// description is the API's, as a library understands it.
var description = sync.OnceValue(func() *openapi3.T {
	doc, err := openapi3.NewLoader().LoadFromData(openAPI)
	if err == nil {
		err = doc.Validate(openapi3.NewLoader().Context)
	}
	if err != nil {
		panic(err)
	}
	return doc
})

// nonconforming has what tests did that the description does not have.
var nonconforming struct {
	sync.Mutex
	faults []string
}

// conforms notes where a request that was carried out, or an answer, is not as described.
func conforms(r *http.Request, sent []byte, w *httptest.ResponseRecorder) {
	item := description().Paths.Value(r.URL.Path)
	if item == nil || r.Method != http.MethodPost {
		return
	}
	fault := func(format string, args ...any) {
		nonconforming.Lock()
		defer nonconforming.Unlock()
		nonconforming.faults = append(nonconforming.faults, fmt.Sprintf("%s %.300s: ", r.URL.Path, sent)+fmt.Sprintf(format, args...))
	}
	response := item.Post.Responses.Status(w.Code)
	if response == nil {
		response = item.Post.Responses.Default()
	}
	media := w.Header().Get("Content-Type")
	content := response.Value.Content.Get(media)
	if content == nil {
		fault("the answer is %s", media)
		return
	}
	refused := w.Code != http.StatusOK
	for line := range bytes.Lines(w.Body.Bytes()) {
		var v any
		if err := json.Unmarshal(line, &v); err != nil {
			fault("answer %s: %v", line, err)
		}
		if err := content.Schema.Value.VisitJSON(v); err != nil {
			fault("answer %s: %v", line, err)
		}
		refused = refused || bytes.Contains(line, []byte(`{"error"`)) // also that of a single command
	}
	body := item.Post.RequestBody.Value.Content.Get("application/json")
	var v any
	if refused || body == nil || json.Unmarshal(sent, &v) != nil {
		return
	}
	if err := body.Schema.Value.VisitJSON(v); err != nil && v != nil {
		fault("was carried out: %v", err)
	}
}

// Every method is described, and no other.
func TestEveryMethodIsDescribed(t *testing.T) {
	var described []string
	for path := range description().Paths.Map() {
		described = append(described, strings.TrimPrefix(path, prefix))
	}
	slices.Sort(described)
	if want := slices.Sorted(maps.Keys(newHandler(t, Config{Hub: new(journal)}).numbers))[1:]; !slices.Equal(described, want) {
		t.Errorf("described are %q, there are %q", described, want)
	}
	status, body, _ := do(newHandler(t, Config{Hub: new(journal)}), request("GET", "/api/openapi.json", ""))
	if status != 200 || body+"\n" != string(openAPI) && body != strings.TrimSuffix(string(openAPI), "\n") {
		t.Errorf("it is not served: %d", status)
	}
}

// Every field of requests and results is described, and no other.
func TestEveryFieldIsDescribed(t *testing.T) {
	for path, v := range map[string]any{
		"publish": publishRequest{}, "broadcast": broadcastRequest{}, "bulk": bulkLine{}, "batch": batchRequest{},
		"subscribe": subscribeRequest{}, "unsubscribe": unsubscribeRequest{}, "disconnect": disconnectRequest{}, "refresh": refreshRequest{},
		"rpc": rpcRequest{}, "history": historyRequest{}, "history_remove": channelRequest{}, "presence": channelRequest{},
		"presence_stats": channelRequest{}, "channels": channelsRequest{}, "info": struct{}{},
		"revoke_token": revokeTokenRequest{}, "invalidate_user_tokens": invalidateUserRequest{}, "invalidate_all_tokens": invalidation{},
	} {
		for _, media := range description().Paths.Value(prefix + path).Post.RequestBody.Value.Content {
			sameFields(t, path, reflect.TypeOf(v), media.Schema.Value)
		}
	}
	for name, v := range map[string]any{
		"PublishResult": publishResult{}, "ClientInfo": clientInfo{}, "Publication": publication{}, "Node": Node{}, "Error": responseError{},
	} {
		sameFields(t, name, reflect.TypeOf(v), description().Components.Schemas[name].Value)
	}
	for path, v := range map[string]any{"history": historyResult{}, "broadcast": broadcastResult{}} {
		either := description().Paths.Value(prefix + path).Post.Responses.Status(200).Value.Content["application/json"].Schema.Value
		sameFields(t, path, reflect.TypeOf(v), either.OneOf[0].Value.Properties["result"].Value)
	}
}

// sameFields compares the fields of a struct with those of a schema, and those within.
func sameFields(t *testing.T, path string, v reflect.Type, schema *openapi3.Schema) {
	t.Helper()
	fields := map[string]reflect.Type{}
	for _, f := range reflect.VisibleFields(v) {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
			fields[name] = f.Type
		}
	}
	if got, want := slices.Sorted(maps.Keys(schema.Properties)), slices.Sorted(maps.Keys(fields)); !slices.Equal(got, want) {
		t.Errorf("%s: described are %q, there are %q", path, got, want)
		return
	}
	for name, f := range fields {
		if f.Kind() == reflect.Pointer {
			f = f.Elem()
		}
		if f.Kind() == reflect.Struct {
			sameFields(t, path+"."+name, f, schema.Properties[name].Value)
		}
	}
}
