output "greeting" {
  description = "What was said."
  value       = terraform_data.greeting.output
}

output "lines" {
  description = "How many lines were printed."
  value       = var.lines
}
