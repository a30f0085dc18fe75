package auth_test

import (
	"context"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/millpond/millpond/push/auth"
)

// A backend signs tokens for its users; the server verifies them.
func Example() {
	secret := []byte("the output of openssl rand -base64 32") // from a file

	// The backend, in the handler that its own pages ask for a token, with the user of their session:
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"sub":  "42",
		"exp":  time.Now().Add(10 * time.Minute).Unix(),
		"iat":  time.Now().Unix(),
		"info": map[string]any{"name": "Ann"},
	}).SignedString(secret)
	if err != nil {
		fmt.Println(err)
		return
	}

	// The server:
	verifier, err := auth.New(auth.Config{Keys: auth.Keys{Secret: secret}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = verifier.Close() }()
	identity, err := verifier.Verify(context.Background(), token)
	fmt.Println(identity.User, string(identity.Info), err)
	_, err = verifier.Verify(context.Background(), token+"x")
	fmt.Println(err)
	// Output:
	// 42 {"name":"Ann"} <nil>
	// invalid token: bad signature or algorithm
}
