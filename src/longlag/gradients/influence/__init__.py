"""What parameters do to states, carried forward in time: for real-time recurrent learning."""
