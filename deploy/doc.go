// Package deploy has the tests of the files beside it; those of the proxies are in cmd/millpond, those of Prometheus and Grafana in push.
package deploy
