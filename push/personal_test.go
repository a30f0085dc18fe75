package push

import (
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

// A personal channel is for its user alone, whatever its namespace allows; and a token for a channel opens no connection.
func TestPersonalChannelsArePersonal(t *testing.T) {
	secret := []byte(strings.Repeat("s", 32))
	s := startServer(t, Config{
		TokenSecret: secret, PersonalChannels: true,
		Channels: ChannelOptions{AllowSubscribeForClient: true, Presence: true},
	})
	sign := func(claims jwt.MapClaims) string {
		token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(secret)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	for _, c := range []struct {
		claims jwt.MapClaims
		want   string
	}{
		{jwt.MapClaims{"sub": "42"}, `"ok":true`},
		{jwt.MapClaims{"sub": "43"}, `"code":103`},
		{jwt.MapClaims{"sub": "42", "channel": "#42"}, `"code":101`},
	} {
		conn := dial(t, s.ws("/push?channels=%2342&token="+sign(c.claims)))
		if got := next(t, conn); !strings.Contains(got, c.want) {
			t.Errorf("%v: %s", c.claims, got)
		}
	}
}
