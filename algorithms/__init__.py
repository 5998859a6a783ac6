"""One file and one YAML per federated method; the modules' names are what ``strata run`` takes."""
