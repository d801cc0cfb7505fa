# The smallest template that shows a whole run: nothing is downloaded, no cloud is touched.

terraform {
  required_version = ">= 1.6.0" # quiet
}

resource "terraform_data" "greeting" {
  input = "hello, ${var.name}"
}

resource "terraform_data" "lines" {
  triggers_replace = [var.name, var.lines, var.pause_seconds]

  provisioner "local-exec" {
    quiet       = true # the lines, without the command that prints them
    interpreter = ["/bin/sh", "-c"]
    command     = <<-EOT
      i=1
      while [ "$i" -le "$LINES_WANTED" ]; do
        echo "$GREETING: line $i of $LINES_WANTED"
        i=$((i + 1))
        sleep "$PAUSE_SECONDS"
      done
    EOT

    environment = {
      GREETING      = terraform_data.greeting.output
      LINES_WANTED  = var.lines
      PAUSE_SECONDS = var.pause_seconds
    }
  }
}
