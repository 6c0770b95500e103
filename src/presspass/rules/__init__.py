"""Cedar rules: what a policy asks for beyond the quorum. The one room that knows the engine."""
